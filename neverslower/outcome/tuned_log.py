"""The study of tuned logs: what becomes of a compiler's tuned schedule when the layer is pruned, and what fixes it.

A search's log holds schedules of the shapes that were searched and of no other: a pruned layer misses it and runs
untuned. Two remedies are measured in addition to the miss: a search of its own, and padding to the tuned count.
That a layer is slower though searched as long is another finding than a miss, and needs more than one search to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neverslower.campaign.findings import Identity, Result
from neverslower.enums import StrEnum
from neverslower.judge.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Thresholds, Verdict
from neverslower.problem.comparison import Comparison, pruning_distances
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer
from neverslower.problem.subject import Search, TunedLog

SEARCHES = 3
"""Searches of each shape, with seeds 0, 1, …: fewer can't distinguish a slow shape from an unlucky search."""
MISSES, RETUNED = 4, 2
"""So many of the most telling channel counts are measured as misses, and with the remedies."""
_CUT_SHORT = (ReasonCode.TIME_BUDGET, ReasonCode.BUDGET_ENDED, ReasonCode.NOT_CONFIRMED)
THE_TUNED_ONE = Interval(1.0, 1.0, 1.0)


class Kind(StrEnum):
    """What is done about a pruned shape that the log does not hold."""

    MISS = "miss"
    TUNED = "tuned"
    PADDED = "padded"


@dataclass(frozen=True)
class Case:
    """One pruned shape treated in one way, and the comparisons that its verdict needs; all have the same reference."""

    kind: Kind
    comparisons: tuple[Comparison, ...]

    @property
    def shown(self) -> Comparison:
        """Return the comparison that stands for the case in messages."""
        return self.comparisons[0]

    @property
    def id(self) -> str:
        """Return the readable name used in test ids: `tvm-resnet50.L16-float32-NCHW-out113-miss`."""
        return self.shown.id


def cases(backend: str, layer: Layer, side: Side, trials: int, keep: Sequence[int] = ()) -> list[Case]:
    """Return the study of one layer: misses at the most telling channel counts or at `keep`, with remedies for some."""
    whole = layer.problem.channels(side)
    ranked = sorted(pruning_distances(layer.problem, side), key=lambda pair: pair[1])
    distances = [whole - count for count in keep] or [distance for distance, _ in ranked[:MISSES]]
    studied = []
    for rank, distance in enumerate(distances, start=1):
        study = _Study(backend, layer, layer.problem.prune(distance, side), side, trials, rank)
        studied.append(study.miss())
        if rank <= RETUNED or keep:
            studied += [study.padded(), study.tuned()]
    return studied


@dataclass(frozen=True)
class _Study:
    """One pruned shape of a layer; the reference is the unpruned layer as its first search has it."""

    backend: str
    layer: Layer
    pruned: ConvProblem
    side: Side
    trials: int
    rank: int

    def _log(self, problem: ConvProblem, seed: int = 0, padded: bool = False) -> str:
        return str(TunedLog(Search(problem, self.trials, seed), padded))

    def _against_the_tuned_one(self, candidate: ConvProblem, policy: str, label: str) -> Comparison:
        policies = (self._log(self.layer.problem), policy)
        return Comparison(self.backend, self.layer, candidate, self.side, self.rank, policies, label)

    def miss(self) -> Case:
        """Return the pruned shape with the unpruned one's log."""
        return Case(
            Kind.MISS, (self._against_the_tuned_one(self.pruned, self._log(self.layer.problem), str(Kind.MISS)),)
        )

    def padded(self) -> Case:
        """Return the pruned shape run as the tuned one, zero filters added."""
        policy = self._log(self.layer.problem, padded=True)
        return Case(Kind.PADDED, (self._against_the_tuned_one(self.pruned, policy, str(Kind.PADDED)),))

    def tuned(self) -> Case:
        """Return every search of the pruned shape, and the unpruned one's other searches, against its first."""
        pruned = [
            self._against_the_tuned_one(
                self.pruned, self._log(self.pruned, seed), f"{Kind.TUNED}{seed}" if seed else str(Kind.TUNED)
            )
            for seed in range(SEARCHES)
        ]
        unpruned = [
            self._against_the_tuned_one(self.layer.problem, self._log(self.layer.problem, seed), f"search{seed}")
            for seed in range(1, SEARCHES)
        ]
        return Case(Kind.TUNED, (*pruned, *unpruned))


def verdict_of(case: Case, results: Mapping[Identity, Result], thresholds: Thresholds = STANDARD) -> Verdict | None:
    """Return the case's verdict, or None where not all of its comparisons have one."""
    made = [result for comparison in case.comparisons if (result := results.get(comparison.identity))]
    if len(made) < len(case.comparisons):
        return None
    verdicts = [result.verdict for result in made]
    if unmeasured := next((verdict for verdict in verdicts if verdict.ratio is None), None):
        return unmeasured
    if any(_left_untuned(case.kind, result) for result in made):
        text = "a search left its own shape untuned, so there is no tuned layer to compare"
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.LUCK_OF_THE_SEARCH, text))
    if case.kind is not Kind.TUNED:
        return verdicts[0]
    return equally_tuned(verdicts[:SEARCHES], verdicts[SEARCHES:], thresholds)


def _left_untuned(kind: Kind, result: Result) -> bool:
    """Return whether something ran untuned that has a search of its own; a miss's candidate has none."""
    searched = [result.reference] if kind is Kind.MISS else [result.reference, result.candidate]
    return any(examined is not None and examined.plan.tuned is False for examined in searched)


def equally_tuned(pruned: Sequence[Verdict], unpruned: Sequence[Verdict], thresholds: Thresholds = STANDARD) -> Verdict:
    """Return the verdict on several searches of each shape, all against the unpruned one's first.

    That first one is not in `unpruned`.

    SLOWER when every search of the pruned shape came out slower than every one of the unpruned shape; if all were
    drawn from one distribution, three against three do so with a chance of 1 in 20. The ratio is that of the
    medians, its bounds the best against the worst.
    """
    ours = [verdict.ratio for verdict in pruned if verdict.ratio]
    theirs = [THE_TUNED_ONE, *(verdict.ratio for verdict in unpruned if verdict.ratio)]
    ratio = Interval(
        statistics.median(own.estimate for own in ours) / statistics.median(other.estimate for other in theirs),
        min(own.low for own in ours) / max(other.high for other in theirs),
        max(own.high for own in ours) / min(other.low for other in theirs),
    )
    best = min(own.high for own in ours) / min(other.low for other in theirs)
    searches = f"{len(ours)} searches of each shape"
    if ratio.low > 1 + thresholds.tolerance and all(verdict.code is Code.SLOWER for verdict in pruned):
        text = f"slower though tuned equally: each of {searches} (by luck alone 1 in 20)"
        return Verdict(Code.SLOWER, Reason(ReasonCode.EQUALLY_TUNED, text), ratio)
    if ratio.high < 1 - thresholds.tolerance:
        return Verdict(Code.FASTER, Reason(ReasonCode.EQUALLY_TUNED, f"faster in all of {searches}"), ratio)
    if best < 1 + thresholds.target:
        text = f"the best of {searches}: {best:.2f}× or less"
        return Verdict(Code.SAME, Reason(ReasonCode.EQUALLY_TUNED, text), ratio)
    cut_short = next((verdict for verdict in pruned if verdict.reason.code in _CUT_SHORT), None)
    if cut_short:
        return Verdict(Code.UNDECIDED, cut_short.reason, ratio)
    text = f"{searches} overlap, and the best pruned one is not proved as fast: luck of the search"
    return Verdict(Code.UNDECIDED, Reason(ReasonCode.LUCK_OF_THE_SEARCH, text), ratio)
