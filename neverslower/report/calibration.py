"""A calibration told: its figures, what is to be mended, and how a device stands to it in other reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neverslower.calibration.figures import Calibration, LayerFigures
from neverslower.calibration.stored import Standing, noise_since
from neverslower.campaign.findings import Findings
from neverslower.judge.verdict import STANDARD
from neverslower.report import words
from neverslower.report.reproduction import software
from neverslower.worker.process import WorkerSpec

_HEAD = ("layer", "a call", "passes", "A/A", "SLOWER", "noise", "floor", "provable", "process", "drift")


def lines(one: Calibration) -> Iterator[str]:
    """Everything that was found."""
    preset, options = one.judge.preset, one.options
    yield f"{software(one.fingerprint)} on {one.fingerprint.device}, {one.date}"
    yield f"  judged as in a run of {options.comparisons} comparisons, preset {preset.name}"
    counted = ", ".join(f"{count} {code}" for code, count in sorted(one.verdicts.items())) or "none ended in time"
    yield f"  {one.comparisons} comparisons of a layer with itself: {counted}"
    bound = words.percent(one.slower_bound)
    false = f"{one.slower} of {one.comparisons}, so at most {bound} (95 % confidence)"
    yield f"  false SLOWER: {false}, before any confirmation"
    yield f"  noise floor {words.percent(one.noise_floor)}; one block scatters by {words.percent(one.noise)}"
    yield f"  smallest slowdown that {preset.most_blocks} blocks can prove, every second time: {_provable(one.mde)}"
    differ = f"{words.percent(one.common_deviation)} in all layers together"
    yield f"  processes differ by {differ}, {words.percent(one.process_deviation)} in each besides ({one.processes})"
    yield f"  block length {one.block_length or 'unknown'}: so many neighbouring blocks count as one"
    yield f"  drift {words.signed_percent(one.drift)} in {words.duration(one.seconds)}"
    yield from (f"  {line}" for line in _table(one))
    mend = to_mend(one)
    yield from (f"  to mend: {line}" for line in mend or ["nothing"])


def _provable(mde: float | None) -> str:
    return "none" if mde is None else words.percent(mde)


def _table(one: Calibration) -> Iterator[str]:
    rows = [_HEAD, *(_row(layer) for layer in one.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for name, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells))


def _row(layer: LayerFigures) -> tuple[str, ...]:
    shares = (layer.noise, layer.noise_floor, layer.mde, layer.process_deviation)
    return (
        layer.name,
        words.seconds(layer.seconds),
        str(layer.passes),
        str(layer.comparisons),
        str(layer.slower),
        *map(words.percent, shares),
        words.signed_percent(layer.drift),
    )


def command(backend: str, argument: str, threads: int = 1) -> str:
    """What calibrates a backend's device."""
    named = f"{backend}:{argument}" if argument else backend
    return f"python -m neverslower calibrate {named}{f' --threads {threads}' if threads > 1 else ''}"


def standing_words(standing: Standing, mend: str) -> str:
    """How a device stands to its calibration, in one line."""
    found = standing.calibration
    if found is None:
        why = f" ({standing.why})" if standing.why else ""
        return f"not calibrated{why}; do it: {mend}"
    provable = f"smallest slowdown that can be proved {_provable(found.mde)}"
    return f"calibrated {found.date}: noise floor {words.percent(found.noise_floor)}, {provable}"


def remarks(findings: Findings, standings: Mapping[str, Standing], specs: Mapping[str, WorkerSpec]) -> Iterator[str]:
    """A line for each device of a run that was not calibrated, or whose noise is now another one."""
    for name, standing in standings.items():
        mend = command(name, specs[name].argument, specs[name].threads)
        if standing.calibration is None:
            yield f"{name}: {standing_words(standing, mend)}"
            continue
        since = noise_since(standing.calibration, findings)
        if since and since.differs:
            now, then = words.percent(since.now), words.percent(since.then)
            told = f"a block scatters by {now} now, by {then} when it was calibrated ({standing.calibration.date})"
            yield f"{name}: its noise differs: {told}; find out why, or calibrate again: {mend}"


def to_mend(calibration: Calibration) -> list[str]:
    """What keeps the device from telling more finely, each with what mends it."""
    found = list(calibration.unsound)
    preset, target = calibration.judge.preset, STANDARD.target
    if not calibration.comparisons:
        found.append("no comparison of a layer with itself ended; mend it: go on with --resume, or longer")
    if calibration.slower:
        text = f"{calibration.slower} of {calibration.comparisons} layers came out slower than themselves"
        found.append(f"{text}; mend it: find what else runs here, and believe no SLOWER until this is 0")
    length = calibration.block_length
    if length is not None and length > preset.block_length:
        text = f"blocks depend on each other up to {length} in a row, the judge takes {preset.block_length} for one"
        found.append(f"{text}; mend it: stop what works now and then, or fix the clocks")
    if abs(calibration.drift) > target:
        text = f"times moved by {words.signed_percent(calibration.drift)}"
        found.append(f"{text}; mend it: let the device warm up before it measures, or fix the clocks")
    if calibration.mde is None or calibration.mde > target:
        text = f"a slowdown of {words.percent(target)} is seldom proved within {preset.most_blocks} blocks"
        found.append(f"{text}; mend it: {'what is above' if found else 'take a preset with more blocks'}")
    return found
