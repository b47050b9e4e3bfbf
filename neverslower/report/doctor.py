"""What a doctor found, told: a block a backend, what has to be done marked, and one line at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neverslower.calibration.doctor import Checkup
from neverslower.device.state import State
from neverslower.report import calibration
from neverslower.report.reproduction import software
from neverslower.report.terminal import baseline_words


def lines(checkups: Sequence[Checkup]) -> Iterator[str]:
    """Everything that was found."""
    for one in checkups:
        yield from _backend(one)
    sound = [one.backend for one in checkups if one.sound]
    unsound = [one.backend for one in checkups if one.fingerprint and not one.sound]
    if unsound:
        yield f"unsound: {', '.join(unsound)}; a run refuses to measure there unless it gets --unsound warn"
    yield f"ready: {', '.join(sound)}" if sound else "ready: nothing; mend what is named above, or install a backend"


def _backend(one: Checkup) -> Iterator[str]:
    if one.fingerprint is None:
        first, *rest = one.missing.splitlines() or [""]
        yield f"{one.backend}: not here: {first.removeprefix('unavailable: ')}"
        yield from (f"  {line}" for line in rest)
        return
    yield f"{one.backend}: {software(one.fingerprint)} on {one.fingerprint.device}"
    yield f"  with: {_listed(one.fingerprint.software)}"
    if one.state:
        yield from _state(one.state)
    yield from (f"  note: {remark}" for remark in one.remarks)
    yield f"  {baseline_words(one.choice)}"
    if one.standing:
        yield f"  {calibration.standing_words(one.standing, calibration.command(one.backend, one.argument))}"


def _state(state: State) -> Iterator[str]:
    yield f"  state: {_listed(state.settings) or 'nothing here tells it'}"
    if state.readings:
        yield f"  now: {_listed({name: f'{value:g}' for name, value in state.readings.items()})}"
    for one in state.unsound:
        yield f"  {'UNSOUND' if one.grave else 'warning'}: {one.text}"
        yield f"    mend it: {one.remedy}"


def _listed(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in words.items())
