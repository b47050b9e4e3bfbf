"""Report what the doctor found: a block for each backend, with what has to be done, and one line at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neverslower.calibration.doctor import Checkup
from neverslower.device.fingerprint import short_hash
from neverslower.device.state import State
from neverslower.report import calibration
from neverslower.report.reproduction import software
from neverslower.report.terminal import baseline_words


def lines(checkups: Sequence[Checkup]) -> Iterator[str]:
    """Yield each backend's block, and the backends that can be measured."""
    for checkup in checkups:
        yield from _backend(checkup)
    sound = [checkup.backend for checkup in checkups if checkup.sound]
    unsound = [checkup.backend for checkup in checkups if checkup.fingerprint and not checkup.sound]
    if unsound:
        yield f"unsound: {', '.join(unsound)}; a run refuses to measure there unless it gets --unsound warn"
    yield f"ready: {', '.join(sound)}" if sound else "ready: nothing; fix what is named above, or install a backend"


def _backend(checkup: Checkup) -> Iterator[str]:
    if checkup.fingerprint is None:
        first, *rest = checkup.missing.splitlines() or [""]
        yield f"{checkup.backend}: not here: {first.removeprefix('unavailable: ')}"
        yield from (f"  {line}" for line in rest)
        return
    yield f"{checkup.backend}: {software(checkup.fingerprint)} on {checkup.fingerprint.device}"
    yield f"  with: {_listed(checkup.fingerprint.software)}"
    if checkup.state:
        yield from _state(checkup.state)
    yield from (f"  note: {remark}" for remark in checkup.remarks)
    yield f"  {baseline_words(checkup.choice)}"
    if checkup.standing:
        remedy = calibration.command(checkup.backend, checkup.argument)
        yield f"  {calibration.standing_words(checkup.standing, remedy)}"


def _state(state: State) -> Iterator[str]:
    yield f"  state: {_listed(state.settings) or 'nothing here reports it'}"
    if state.readings:
        yield f"  now: {_listed({name: f'{value:g}' for name, value in state.readings.items()})}"
    for unsound in state.unsound:
        yield f"  {'UNSOUND' if unsound.grave else 'warning'}: {unsound.text}"
        yield f"    fix: {unsound.remedy}"


def _listed(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {short_hash(text)}" for name, text in words.items())
