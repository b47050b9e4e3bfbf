"""How finely a device can tell: figures from a calibration's raw A/A passes, stored beside its baselines.

Everything here is about a layer against itself. A campaign's judge gets a layer's passes in the order in which they
were taken, and as many of them as it wants; where it has had enough, one comparison is over and the next one begins.
So no pass serves two comparisons, and each of them is stopped as it would be in a campaign. What is left at the end
has decided nothing, and is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property

import numpy as np

from neverslower.calibration.recording import Recording, Taken
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import CalibrationError
from neverslower.evidence.observation import PairedPass
from neverslower.judge import stats
from neverslower.judge.change import PassSpread, log_median
from neverslower.judge.sequential import PRESETS, SequentialJudge, block_length
from neverslower.judge.stats import Floats
from neverslower.judge.verdict import Code, Verdict, block_log_ratios


@dataclass(frozen=True)
class CalibrationOptions:
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
    options: CalibrationOptions
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


def calibration_of(recording: Recording, options: CalibrationOptions) -> Calibration:
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


# Stored


# Standing
