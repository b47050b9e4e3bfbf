"""Report a calibration: its figures, what should be fixed, and in other reports whether a device has one that holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neverslower.calibration.figures import Calibration, LayerFigures
from neverslower.calibration.stored import Standing, noise_since
from neverslower.campaign.findings import Findings
from neverslower.counted import counted
from neverslower.judge.verdict import STANDARD
from neverslower.report import words
from neverslower.report.reproduction import software
from neverslower.worker.process import WorkerSpec

_HEAD = ("layer", "a call", "passes", "A/A", "SLOWER", "noise", "floor", "provable", "process", "drift")


def lines(calibration: Calibration) -> Iterator[str]:
    """Yield the figures of the device, a table of its layers, and what should be fixed."""
    preset, options = calibration.judge.preset, calibration.options
    yield f"{software(calibration.fingerprint)} on {calibration.fingerprint.device}, {calibration.date}"
    yield f"  judged as in a run of {counted(options.comparisons, 'comparison')}, preset {preset.name}"
    verdicts = sorted(calibration.verdicts.items())
    listed = ", ".join(f"{count} {code}" for code, count in verdicts) or "none ended in time"
    yield f"  {counted(calibration.comparisons, 'comparison')} of a layer with itself: {listed}"
    bound = words.percent(calibration.slower_bound)
    false = f"{calibration.slower} of {calibration.comparisons}, so at most {bound} (95 % confidence)"
    yield f"  false SLOWER: {false}, before any confirmation"
    floor, noise = words.percent(calibration.noise_floor), words.percent(calibration.noise)
    yield f"  noise floor {floor}; one block scatters by {noise}"
    provable = _provable(calibration.mde)
    yield f"  smallest slowdown that {preset.most_blocks} blocks can prove, every second time: {provable}"
    common, own = words.percent(calibration.common_deviation), words.percent(calibration.process_deviation)
    yield f"  processes differ by {common} in all layers together, {own} more in each ({calibration.processes})"
    yield f"  block length {calibration.block_length or 'unknown'}: so many neighbouring blocks count as one"
    yield f"  drift {words.signed_percent(calibration.drift)} in {words.duration(calibration.seconds)}"
    yield from (f"  {line}" for line in _table(calibration))
    yield from (f"  to fix: {line}" for line in to_fix(calibration) or ["nothing"])


def _provable(mde: float | None) -> str:
    return "none" if mde is None else words.percent(mde)


def _table(calibration: Calibration) -> Iterator[str]:
    rows = [_HEAD, *(_row(layer) for layer in calibration.layers)]
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
    """Return the command that calibrates a backend's device."""
    named = f"{backend}:{argument}" if argument else backend
    return f"python -m neverslower calibrate {named}{f' --threads {threads}' if threads > 1 else ''}"


def standing_words(standing: Standing, remedy: str) -> str:
    """Return in one line what the device's calibration says, or why there is none and the `remedy`, a command."""
    calibration = standing.calibration
    if calibration is None:
        return f"{_not_calibrated(standing)}; calibrate it: {remedy}"
    provable = f"smallest slowdown that can be proved {_provable(calibration.mde)}"
    return f"calibrated {calibration.date}: noise floor {words.percent(calibration.noise_floor)}, {provable}"


def _not_calibrated(standing: Standing) -> str:
    return f"not calibrated{f' ({standing.why})' if standing.why else ''}"


def remarks(findings: Findings, standings: Mapping[str, Standing], specs: Mapping[str, WorkerSpec]) -> Iterator[str]:
    """Yield a line for each device of a run whose calibration does not hold, or whose noise has changed since."""
    for name, standing in standings.items():
        if standing.calibration is None:
            if standing.why:
                yield f"{name}: {_not_calibrated(standing)}"
            continue
        since = noise_since(standing.calibration, findings)
        if since and since.differs:
            now, then = words.percent(since.now), words.percent(since.then)
            both = f"a block scatters by {now} now, by {then} when it was calibrated ({standing.calibration.date})"
            remedy = _command_for(name, specs)
            yield f"{name}: its noise differs: {both}; find out why, or calibrate again: {remedy}"


def steps(standings: Mapping[str, Standing], specs: Mapping[str, WorkerSpec]) -> Iterator[tuple[str, str]]:
    """Yield (what it is good for, the command) for each device that was not calibrated."""
    for name, standing in standings.items():
        if standing.calibration is None:
            yield f"learn how small a slowdown shows here ({name} is not calibrated yet)", _command_for(name, specs)


def _command_for(name: str, specs: Mapping[str, WorkerSpec]) -> str:
    return command(name, specs[name].argument, specs[name].threads)


def to_fix(calibration: Calibration) -> list[str]:
    """List what keeps the device from showing smaller slowdowns, each with its remedy."""
    troubles = list(calibration.unsound)
    preset, target = calibration.judge.preset, STANDARD.target
    if not calibration.comparisons:
        troubles.append("no comparison of a layer with itself ended; fix: go on with --resume, or longer")
    if calibration.slower:
        layers = f"{calibration.slower} of {counted(calibration.comparisons, 'layer')}"
        text = f"{layers} came out slower in the comparison of a layer with itself"
        troubles.append(f"{text}; fix: find what else runs here, and believe no SLOWER until this is 0")
    length = calibration.block_length
    if length is not None and length > preset.block_length:
        text = f"blocks depend on each other up to {length} in a row, the judge takes {preset.block_length} for one"
        troubles.append(f"{text}; fix: stop what runs now and then, or fix the clocks")
    if abs(calibration.drift) > target:
        text = f"times moved by {words.signed_percent(calibration.drift)}"
        troubles.append(f"{text}; fix: let the device warm up before it measures, or fix the clocks")
    if calibration.mde is None or calibration.mde > target:
        text = f"a slowdown of {words.percent(target)} is seldom proved within {preset.most_blocks} blocks"
        troubles.append(f"{text}; fix: {'what is above' if troubles else 'take a preset with more blocks'}")
    return troubles
