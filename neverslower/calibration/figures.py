"""Compute how small a slowdown a device can show, from a calibration's raw A/A passes.

Everything here is about a layer against itself. A campaign's judge gets a layer's passes in the order in which they
were taken, and as many of them as it wants; where it has had enough, one comparison ends and the next one begins.
So no pass serves two comparisons, and each comparison stops as it would in a campaign. The passes that are left at the
end have decided nothing, and are not counted.
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
from neverslower.judge.sequential import PRESETS, SequentialJudge
from neverslower.judge.stats import Floats
from neverslower.judge.units import block_length
from neverslower.judge.verdict import Code, Verdict, block_log_ratios


@dataclass(frozen=True)
class CalibrationOptions:
    """The run that was calibrated for: the backend's argument, threads, and a preset judging `comparisons`."""

    argument: str
    threads: int
    preset: str
    comparisons: int


@dataclass(frozen=True)
class LayerFigures:
    """The figures of one layer against itself; fractions, so 0.01 is 1 %.

    `seconds` is the median time of a call, `problem` the layer's key. `verdicts` counts the verdicts of its
    comparisons. `noise` is the deviation of one block's ratio. `noise_floor` and `mde` are those of the preset's whole
    budget, None where nothing can be proved. `process_deviation` is how far processes move this layer apart from all
    others, and `drift` how far its level moved from the first pass to the last.
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
        """Count the A/A comparisons that ended in an answer, or in none because of noise."""
        return sum(count for code, count in self.verdicts.items() if Code(code).measured)

    @property
    def slower(self) -> int:
        """Count the comparisons in which the layer came out slower than itself."""
        return self.verdicts.get(str(Code.SLOWER), 0)


@dataclass(frozen=True)
class Calibration:
    """One calibration of a device: the figures of each layer, and those that only all layers together show.

    `common_deviation` is how far a process moves all layers alike. `block_length` is the number of neighbouring blocks
    whose mean is independent of the next ones (None where no stretch was measured). `seconds` is the time from the
    first pass to the last, and `unsound` lists what looks at the device found, each with its remedy.
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
        """Return the judge whose errors were counted."""
        return SequentialJudge(preset=PRESETS[self.options.preset])

    @property
    def comparisons(self) -> int:
        """Count the A/A comparisons of all layers."""
        return sum(layer.comparisons for layer in self.layers)

    @property
    def slower(self) -> int:
        """Count the false SLOWER among them."""
        return sum(layer.slower for layer in self.layers)

    @cached_property
    def slower_bound(self) -> float:
        """Return the upper bound of the rate of false SLOWER, with 95 % confidence."""
        return stats.rate_bound(self.slower, self.comparisons)

    @property
    def verdicts(self) -> Counter[str]:
        """Count the verdicts of all layers."""
        return sum((Counter(layer.verdicts) for layer in self.layers), Counter())

    @property
    def noise(self) -> float:
        """Return the median layer's noise."""
        return float(np.median([layer.noise for layer in self.layers]))

    @property
    def noise_floor(self) -> float | None:
        """Return the median layer's noise floor, None where that layer has none."""
        return _median(layer.noise_floor for layer in self.layers)

    @property
    def mde(self) -> float | None:
        """Return the smallest slowdown that the median layer can prove, None where that layer can prove none."""
        return _median(layer.mde for layer in self.layers)

    @property
    def process_deviation(self) -> float:
        """Return the median layer's process deviation."""
        return float(np.median([layer.process_deviation for layer in self.layers]))

    @property
    def drift(self) -> float:
        """Return the median layer's drift, with its sign."""
        return float(np.median([layer.drift for layer in self.layers]))


# Figures


def calibration_of(recording: Recording, options: CalibrationOptions) -> Calibration:
    """Compute the figures of everything that was recorded. Raises CalibrationError where no layer has a pass."""
    scheme, fingerprint = recording.scheme, recording.fingerprint
    assert scheme is not None
    assert fingerprint is not None
    sound = {name: recording.of(name) for name in scheme.layers if name not in recording.failures}
    taken = {name: mine for name, mine in sound.items() if any(len(pass_.paired.seconds) for pass_ in mine)}
    if not taken:
        why = "; ".join(f"{name}: {reason}" for name, reason in recording.failures.items())
        raise CalibrationError(f"no layer could be calibrated: {why or 'nothing was measured'}")
    judge = SequentialJudge(preset=PRESETS[options.preset])
    spread = process_spread(taken)
    layers = tuple(
        layer_figures(name, scheme.layers[name], mine, judge, options.comparisons, spread)
        for name, mine in taken.items()
    )
    moments = [pass_.at for mine in taken.values() for pass_ in mine]
    stretches = [stretch.paired.seconds for stretch in recording.stretches if stretch.name in taken]
    return Calibration(
        fingerprint=fingerprint,
        date=datetime.fromtimestamp(max(moments), timezone.utc).isoformat(timespec="seconds"),
        options=options,
        layers=tuple(sorted(layers, key=lambda layer: layer.seconds)),
        processes=recording.processes,
        seconds=max(moments) - min(moments),
        common_deviation=_fraction(math.sqrt(spread.common.value)),
        block_length=block_length(stretches) if stretches else None,
        unsound=tuple(troubles(recording.states)),
    )


def layer_figures(
    name: str, key: str, taken: Sequence[Taken], judge: SequentialJudge, family: int, spread: PassSpread
) -> LayerFigures:
    """Compute one layer's figures from its passes.

    `family` is how many comparisons a run makes; `spread` says how far the processes of all layers differ.
    """
    passes = [pass_.paired for pass_ in taken]
    verdicts = Counter(str(verdict.code) for verdict in against_itself(passes, judge, family))
    budgets = [(judge(mine, family), mine) for mine in whole_budgets(passes, judge.preset.most_passes)]
    return LayerFigures(
        name=name,
        problem=key,
        seconds=math.exp(log_median(np.concatenate([pass_.reference for pass_ in passes]))),
        passes=len(passes),
        verdicts=dict(verdicts),
        noise=noise(passes),
        noise_floor=_median(_at_whole_budget(verdict, mine, judge) for verdict, mine in budgets),
        mde=_median(verdict.mde for verdict, _ in budgets),
        process_deviation=_fraction(math.sqrt(spread.own_variance(name).value)),
        drift=drift(taken),
    )


def against_itself(passes: Sequence[PairedPass], judge: SequentialJudge, family: int) -> list[Verdict]:
    """Return the verdicts of the comparisons that these passes make, one after the other; see the module."""
    verdicts, begin = [], 0
    for end in range(1, len(passes) + 1):
        if judge.enough(mine := passes[begin:end], family):
            verdicts.append(judge(mine, family))
            begin = end
    return verdicts


def noise(passes: Sequence[PairedPass]) -> float:
    """Return the deviation of one block's ratio, as a fraction; more blocks do not make it smaller."""
    ratios = np.concatenate([block_log_ratios(pass_.seconds) for pass_ in passes])
    return _fraction(stats.robust_deviation(ratios))


def whole_budgets(passes: Sequence[PairedPass], most: int) -> list[Sequence[PairedPass]]:
    """Cut the passes into budgets of `most`, and drop the rest; fewer passes than `most` are one budget."""
    return [passes[first : first + most] for first in range(0, len(passes) - most + 1, most)] or [passes]


def _at_whole_budget(verdict: Verdict, passes: Sequence[PairedPass], judge: SequentialJudge) -> float | None:
    """Return the noise floor that the whole budget would have, None where the verdict has none.

    The floor shrinks with the root of the number of blocks, so one of fewer blocks is scaled.
    """
    if verdict.noise_floor is None:
        return None
    blocks = sum(len(pass_.seconds) for pass_ in passes)
    return _fraction(math.log1p(verdict.noise_floor) * math.sqrt(blocks / judge.preset.most_blocks))


def process_spread(taken: Mapping[str, Sequence[Taken]]) -> PassSpread:
    """Compute how far processes differ, from each layer's level in each process.

    Only processes in which every layer was timed count: the others can't separate one layer's share from that of all.
    """
    levels = {name: _levels(mine) for name, mine in taken.items()}
    everywhere = set.intersection(*(set(of_layer) for of_layer in levels.values()))
    return PassSpread.of(
        {name: [of_layer[process] for process in sorted(everywhere)] for name, of_layer in levels.items()}
    )


def _levels(taken: Sequence[Taken]) -> dict[int, float]:
    """Return the log median of a layer's candidate in each process, by the process's number."""
    by_process: dict[int, list[Floats]] = {}
    for pass_ in taken:
        by_process.setdefault(pass_.process, []).append(pass_.paired.candidate)
    together = {process: np.concatenate(seconds) for process, seconds in by_process.items()}
    return {process: log_median(seconds) for process, seconds in together.items() if len(seconds)}


def drift(taken: Sequence[Taken]) -> float:
    """Return how far a layer's time moved from the first pass to the last, as a signed fraction.

    It is the median slope of all pairs of passes (Theil 1950, A rank-invariant method of linear and polynomial
    regression analysis), times the time between the first and the last.
    """
    full = [pass_ for pass_ in taken if len(pass_.paired.seconds)]
    moments = np.array([pass_.at for pass_ in full])
    levels = np.array([log_median(pass_.paired.reference) for pass_ in full])
    earlier, later = np.triu_indices(len(full), 1)
    gaps = moments[later] - moments[earlier]
    apart = gaps > 0
    if not apart.any():
        return 0.0
    slope = float(np.median((levels[later] - levels[earlier])[apart] / gaps[apart]))
    return math.expm1(slope * float(np.ptp(moments)))


def troubles(states: Sequence[State]) -> list[str]:
    """List what looks at the device found unsound, each sort once with how often, and the settings that changed."""
    seen: dict[str, list[str]] = {}
    for state in states:
        for unsound in state.unsound:
            seen.setdefault(str(unsound.trouble), []).append(str(unsound))
    counted = [f"{texts[-1]} (in {len(texts)} of {len(states)} looks)" for texts in seen.values()]
    changed = dict.fromkeys(change for state in states[1:] for change in replace(state, unsound=()).changes(states[0]))
    return counted + [f"{change}, while it was calibrated; fix: keep that setting fixed" for change in changed]


def _fraction(log_ratio: float) -> float:
    return math.expm1(log_ratio)


def _median(figures: Iterable[float | None]) -> float | None:
    """Return the median, where None (nothing can be proved) counts as larger than any figure; None where it is one."""
    middle = float(np.median([math.inf if figure is None else figure for figure in figures]))
    # Between two infinities numpy finds no number.
    return None if math.isinf(middle) or math.isnan(middle) else middle
