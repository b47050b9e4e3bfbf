"""How finely a device can tell: figures from a calibration's raw A/A passes, stored beside its baselines.

Everything here is about a layer against itself. A campaign's judge gets a layer's passes in the order in which they
were taken, and as many of them as it wants; where it has had enough, one comparison is over and the next one begins.
So no pass serves two comparisons, and each of them is stopped as it would be in a campaign. What is left at the end
has decided nothing, and is not counted.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neverslower import baseline, stats
from neverslower.environment import Fingerprint
from neverslower.errors import CalibrationError
from neverslower.findings import Findings
from neverslower.observation import PairedPass
from neverslower.recording import Recording, Taken
from neverslower.regression import PassSpread, log_median
from neverslower.report import words
from neverslower.sequential import PRESETS, SequentialJudge, block_length
from neverslower.state import State
from neverslower.stats import Floats
from neverslower.stored import field, fingerprint_of, finite, read_json, values, word
from neverslower.verdict import STANDARD, Code, Verdict, block_log_ratios

FILE = "calibration.json"
"""The calibration's name in a device's folder of baselines."""
SCHEMA = 1
NOISE_DIFFERS = 2.0
"""A run's noise beyond so many times the calibration's, or as many times below it, is another noise."""


@dataclass(frozen=True)
class Options:
    """What was calibrated for: the backend's argument, threads, and a run of `comparisons` with a preset."""

    argument: str
    threads: int
    preset: str
    comparisons: int


@dataclass(frozen=True)
class LayerFigures:
    """What one layer against itself shows; fractions, so 0.01 is 1 %.

    `verdicts` counts those of its comparisons. `noise` is the deviation of one block's ratio, `noise_floor` and `mde`
    are those of the preset's whole budget, None where nothing can be proved, `process_deviation` is what a process
    does to this layer beside all others, and `drift` how far its level moved from the first pass to the last.
    """

    name: str
    problem: str
    seconds: float
    passes: int
    verdicts: Mapping[str, int]
    noise: float
    noise_floor: float | None
    mde: float | None
    process_deviation: float
    drift: float

    @property
    def comparisons(self) -> int:
        """The A/A comparisons that ended in an answer, or without one for noise."""
        return sum(count for code, count in self.verdicts.items() if Code(code).measured)

    @property
    def slower(self) -> int:
        """Those in which the layer came out slower than itself."""
        return self.verdicts.get(str(Code.SLOWER), 0)


@dataclass(frozen=True)
class Calibration:
    """One calibration of a device: what each layer shows, and what only all of them together do.

    `common_deviation` is what a process does to all layers alike, `block_length` the blocks from which on neighbours
    are independent (None where that was not looked at), `seconds` the time from the first pass to the last, and
    `unsound` what looks at the device found, with what mends it.
    """

    fingerprint: Fingerprint
    date: str
    options: Options
    layers: tuple[LayerFigures, ...]
    processes: int
    seconds: float
    common_deviation: float
    block_length: int | None
    unsound: tuple[str, ...] = ()

    @property
    def judge(self) -> SequentialJudge:
        """The judge whose errors were counted."""
        return SequentialJudge(preset=PRESETS[self.options.preset])

    @property
    def comparisons(self) -> int:
        """The A/A comparisons of all layers."""
        return sum(one.comparisons for one in self.layers)

    @property
    def slower(self) -> int:
        """The false SLOWER among them."""
        return sum(one.slower for one in self.layers)

    @cached_property
    def slower_bound(self) -> float:
        """What the rate of false SLOWER is below, with 95 % confidence."""
        return stats.rate_bound(self.slower, self.comparisons)

    @property
    def verdicts(self) -> Counter[str]:
        """All verdicts, counted."""
        return sum((Counter(one.verdicts) for one in self.layers), Counter())

    @property
    def noise(self) -> float:
        """The typical layer's."""
        return float(np.median([one.noise for one in self.layers]))

    @property
    def noise_floor(self) -> float | None:
        """The typical layer's."""
        return _typical(one.noise_floor for one in self.layers)

    @property
    def mde(self) -> float | None:
        """The typical layer's."""
        return _typical(one.mde for one in self.layers)

    @property
    def process_deviation(self) -> float:
        """The typical layer's."""
        return float(np.median([one.process_deviation for one in self.layers]))

    @property
    def drift(self) -> float:
        """The typical layer's, with its sign."""
        return float(np.median([one.drift for one in self.layers]))


# Figures


def calibration_of(recording: Recording, options: Options) -> Calibration:
    """The figures of everything that was recorded. Raises CalibrationError where no layer has a pass."""
    scheme, fingerprint = recording.scheme, recording.fingerprint
    assert scheme is not None
    assert fingerprint is not None
    sound = {name: recording.of(name) for name in scheme.layers if name not in recording.failures}
    taken = {name: mine for name, mine in sound.items() if any(len(one.paired.seconds) for one in mine)}
    if not taken:
        why = "; ".join(f"{name}: {reason}" for name, reason in recording.failures.items())
        raise CalibrationError(f"no layer could be calibrated: {why or 'nothing was measured'}")
    judge = SequentialJudge(preset=PRESETS[options.preset])
    spread = process_spread(taken)
    layers = tuple(
        layer_figures(name, scheme.layers[name], mine, judge, options.comparisons, spread)
        for name, mine in taken.items()
    )
    moments = [one.at for mine in taken.values() for one in mine]
    stretches = [one.paired.seconds for one in recording.stretches if one.name in taken]
    return Calibration(
        fingerprint=fingerprint,
        date=datetime.fromtimestamp(max(moments), timezone.utc).isoformat(timespec="seconds"),
        options=options,
        layers=tuple(sorted(layers, key=lambda one: one.seconds)),
        processes=recording.processes,
        seconds=max(moments) - min(moments),
        common_deviation=_fraction(math.sqrt(spread.common.value)),
        block_length=block_length(stretches) if stretches else None,
        unsound=tuple(troubles(recording.states)),
    )


def layer_figures(
    name: str, key: str, taken: Sequence[Taken], judge: SequentialJudge, family: int, spread: PassSpread
) -> LayerFigures:
    """One layer's figures; `family` is how many comparisons a run makes, `spread` that of all layers' processes."""
    passes = [one.paired for one in taken]
    verdicts = Counter(str(one.code) for one in against_itself(passes, judge, family))
    budgets = [(judge(mine, family), mine) for mine in whole_budgets(passes, judge.preset.most_passes)]
    return LayerFigures(
        name=name,
        problem=key,
        seconds=math.exp(log_median(np.concatenate([one.reference for one in passes]))),
        passes=len(passes),
        verdicts=dict(verdicts),
        noise=noise(passes),
        noise_floor=_typical(_at_whole_budget(verdict, mine, judge) for verdict, mine in budgets),
        mde=_typical(verdict.mde for verdict, _ in budgets),
        process_deviation=_fraction(math.sqrt(spread.own_variance(name).value)),
        drift=drift(taken),
    )


def against_itself(passes: Sequence[PairedPass], judge: SequentialJudge, family: int) -> list[Verdict]:
    """The verdicts of the comparisons that these passes make; see the module."""
    found, begin = [], 0
    for end in range(1, len(passes) + 1):
        if judge.enough(mine := passes[begin:end], family):
            found.append(judge(mine, family))
            begin = end
    return found


def noise(passes: Sequence[PairedPass]) -> float:
    """The deviation of one block's ratio, whatever the number of blocks."""
    return _fraction(stats.robust_deviation(np.concatenate([block_log_ratios(one.seconds) for one in passes])))


def whole_budgets(passes: Sequence[PairedPass], most: int) -> list[Sequence[PairedPass]]:
    """The passes in budgets of `most`, what is left at the end apart; all of them where they are fewer."""
    return [passes[first : first + most] for first in range(0, len(passes) - most + 1, most)] or [passes]


def _at_whole_budget(verdict: Verdict, passes: Sequence[PairedPass], judge: SequentialJudge) -> float | None:
    """The noise floor, which shrinks with the root of the number of blocks, where the budget was not taken whole."""
    if verdict.noise_floor is None:
        return None
    blocks = sum(len(one.seconds) for one in passes)
    return _fraction(math.log1p(verdict.noise_floor) * math.sqrt(blocks / judge.preset.most_blocks))


def process_spread(taken: Mapping[str, Sequence[Taken]]) -> PassSpread:
    """How far processes differ, from each layer's level in those processes in which every layer was timed."""
    levels = {name: _levels(mine) for name, mine in taken.items()}
    everywhere = set.intersection(*(set(one) for one in levels.values()))
    return PassSpread.of({name: [one[process] for process in sorted(everywhere)] for name, one in levels.items()})


def _levels(taken: Sequence[Taken]) -> dict[int, float]:
    by_process: dict[int, list[Floats]] = {}
    for one in taken:
        by_process.setdefault(one.process, []).append(one.paired.candidate)
    together = {process: np.concatenate(seconds) for process, seconds in by_process.items()}
    return {process: log_median(seconds) for process, seconds in together.items() if len(seconds)}


def drift(taken: Sequence[Taken]) -> float:
    """How far a layer's time moved from the first pass to the last: the median slope of all pairs of passes (Theil
    1950, A rank-invariant method of linear and polynomial regression analysis), times the time between."""
    full = [one for one in taken if len(one.paired.seconds)]
    moments = np.array([one.at for one in full])
    levels = np.array([log_median(one.paired.reference) for one in full])
    earlier, later = np.triu_indices(len(full), 1)
    gaps = moments[later] - moments[earlier]
    apart = gaps > 0
    if not apart.any():
        return 0.0
    slope = float(np.median((levels[later] - levels[earlier])[apart] / gaps[apart]))
    return math.expm1(slope * float(np.ptp(moments)))


def troubles(states: Sequence[State]) -> list[str]:
    """What looks at the device found unsound, each sort once with how often, and the settings that changed."""
    seen: dict[str, list[str]] = {}
    for state in states:
        for one in state.unsound:
            seen.setdefault(str(one.trouble), []).append(str(one))
    found = [f"{texts[-1]} (in {len(texts)} of {len(states)} looks)" for texts in seen.values()]
    changed = dict.fromkeys(change for state in states[1:] for change in replace(state, unsound=()).changes(states[0]))
    return found + [f"{change}, while it was calibrated; mend it: fix that setting" for change in changed]


def _fraction(log_ratio: float) -> float:
    return math.expm1(log_ratio)


def _typical(figures: Iterable[float | None]) -> float | None:
    """The median, of which None is the largest; None where it is one."""
    middle = float(np.median([math.inf if one is None else one for one in figures]))
    return None if math.isinf(middle) or math.isnan(middle) else middle


# What is to be done


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


# Stored


def save(root: Path, calibration: Calibration) -> Path:
    """Write it as the device's calibration, in the place of an earlier one. Raises CalibrationError."""
    folder = root / calibration.fingerprint.folder
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_dict(calibration), indent=1, ensure_ascii=False, allow_nan=False)
        baseline.write_whole(path, text + "\n")
    except OSError as error:
        text = f"{path} can't be written: {error.strerror}; mend that, or name another folder with --baselines"
        raise CalibrationError(text) from error
    return path


def as_dict(calibration: Calibration) -> dict[str, Any]:
    """A calibration as plain data; what is `overall` follows from the layers, and is there for other readers."""
    names = ("comparisons", "slower", "slower_bound", "noise", "noise_floor", "mde", "process_deviation", "drift")
    layers = [asdict(one) | {"comparisons": one.comparisons, "slower": one.slower} for one in calibration.layers]
    return {
        "schema": SCHEMA,
        **{name: getattr(calibration, name) for name in ("date", "processes", "seconds")},
        "options": asdict(calibration.options),
        "overall": {name: getattr(calibration, name) for name in names},
        **{name: getattr(calibration, name) for name in ("common_deviation", "block_length")},
        "unsound": list(calibration.unsound),
        "layers": layers,
        "fingerprint": calibration.fingerprint.as_dict(),
    }


def load(path: Path) -> Calibration:
    """Read a calibration. Raises CalibrationError, naming the file, what is wrong in it and the remedy."""
    content = read_json(path, "calibration", "calibrate again", CalibrationError)
    try:
        schema = field(content, "schema", int)
        if schema > SCHEMA:
            raise CalibrationError(f"calibration {path}: schema {schema} is newer than {SCHEMA}; update never-slower")
        return _read(content)
    except ValueError as error:
        raise CalibrationError(f"calibration {path}: not a calibration ({error}); calibrate again") from None


def _read(content: Mapping[str, Any]) -> Calibration:
    stored = field(content, "fingerprint", dict)
    length = content.get("block_length")
    layers = tuple(_read_layer(one) for one in values(content, "layers", dict))
    if not layers:
        raise ValueError("it has no layers")
    date = word(content, "date")
    datetime.fromisoformat(date)
    return Calibration(
        fingerprint=fingerprint_of({word(stored, "backend"): stored}, stored["backend"]),
        date=date,
        options=_read_options(field(content, "options", dict)),
        layers=layers,
        processes=field(content, "processes", int),
        seconds=_amount(content, "seconds"),
        common_deviation=_amount(content, "common_deviation"),
        block_length=None if length is None else field(content, "block_length", int),
        unsound=tuple(values(content, "unsound", str)),
    )


def _read_options(stored: Mapping[str, Any]) -> Options:
    preset = word(stored, "preset")
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}")
    return Options(word(stored, "argument"), field(stored, "threads", int), preset, field(stored, "comparisons", int))


def _read_layer(stored: Mapping[str, Any]) -> LayerFigures:
    verdicts = {str(Code(code)): field({code: count}, code, int) for code, count in
                field(stored, "verdicts", dict).items()}  # fmt: skip
    return LayerFigures(
        name=word(stored, "name"),
        problem=word(stored, "problem"),
        seconds=_amount(stored, "seconds"),
        passes=field(stored, "passes", int),
        verdicts=verdicts,
        noise=_amount(stored, "noise"),
        noise_floor=_amount_if_any(stored, "noise_floor"),
        mde=_amount_if_any(stored, "mde"),
        process_deviation=_amount(stored, "process_deviation"),
        drift=finite("drift", stored.get("drift")),
    )


def _amount(record: Mapping[str, Any], name: str) -> float:
    """A field that is a number, and not a negative one."""
    value = finite(name, record.get(name))
    if value < 0:
        raise ValueError(f"{name} is {value}")
    return value


def _amount_if_any(record: Mapping[str, Any], name: str) -> float | None:
    return None if record.get(name, 0) is None else _amount(record, name)


# Standing


@dataclass(frozen=True)
class Standing:
    """The calibration that counts for a device as it is now, or `why` what is stored does not."""

    calibration: Calibration | None = None
    why: str = ""


def standing(root: Path, fingerprint: Fingerprint) -> Standing:
    """What is stored for a device; of another device or state, or one that can't be read, it doesn't count."""
    path = root / fingerprint.folder / FILE
    if not os.path.lexists(path):
        return Standing()
    try:
        found = load(path)
    except CalibrationError as error:
        return Standing(why=str(error))
    if obstacles := fingerprint.obstacles(found.fingerprint):
        return Standing(why=f"calibrated in another state: {'; '.join(obstacles)}")
    return Standing(found)


@dataclass(frozen=True)
class NoiseSince:
    """The noise of layers that were calibrated and of the same layers in a run, medians of both."""

    then: float
    now: float
    layers: int

    @property
    def differs(self) -> bool:
        """Whether the run's noise is another one."""
        return not self.then / NOISE_DIFFERS <= self.now <= self.then * NOISE_DIFFERS


def noise_since(calibration: Calibration, findings: Findings) -> NoiseSince | None:
    """The noise of a run's own A/A comparisons beside the calibration's, None where they have no layer in common.

    Layers differ in noise, so each is set against itself only; what the medians are taken of is the same layers.
    """
    then = {one.problem: one.noise for one in calibration.layers}
    now = {
        result.comparison.keys[0]: noise(result.passes)
        for result in findings.results.values()
        if result.comparison.backend == calibration.fingerprint.backend
        and result.comparison.against_itself
        and any(len(one.seconds) for one in result.passes)
    }
    common = sorted(set(then) & set(now))
    if not common:
        return None
    before, after = (float(np.median([noises[key] for key in common])) for noises in (then, now))
    return NoiseSince(before, after, len(common))
