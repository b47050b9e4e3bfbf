"""Asks a library why something is slower: what its best plan takes, what padding takes, and what both plans launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from neverslower.campaign.findings import Result
from neverslower.campaign.library import Library
from neverslower.judge.cause import Explanation, Remedy, explain
from neverslower.judge.failure import Failure
from neverslower.judge.sequential import until_enough
from neverslower.judge.verdict import Code, Interval, Judge, Verdict
from neverslower.problem.comparison import Comparison, padded_selves
from neverslower.problem.subject import BEST, Subject


class Explainer:
    """Explains results on one side, as far as `seconds` last: half of them for remedies, the rest for causes."""

    def __init__(
        self,
        side: Library,
        judge: Judge,
        blocks: int,
        seconds: float | None,
        clock: Callable[[], float],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._side, self._judge, self._blocks = side, judge, blocks
        self._seconds, self._clock, self._progress = seconds, clock, progress
        self._begin = clock()

    def explain(self, results: Sequence[Result]) -> Iterator[tuple[Result, Explanation]]:
        """What is found of each, the worst first; from the plans alone once the time for it is over."""
        wanted = sorted(results, key=lambda one: -one.verdict.ratio.estimate if one.verdict.ratio else 0.0)
        # A library may remember which plan a shape got in this process, so the best ones are looked for in another.
        self._side.fresh_worker()
        self._begin = self._clock()
        remedies = {}
        for done, result in enumerate(wanted, start=1):
            if self._enough(0.5):
                break
            remedies[result.comparison] = self._remedy(result.comparison, len(wanted))
            self._progress("remedies", done, len(wanted))
        self._side.fresh_worker()
        for done, result in enumerate(wanted, start=1):
            best = None if self._enough(1.0) else self._best(result.comparison, len(wanted))
            if explanation := self._explanation(result, best, remedies.get(result.comparison)):
                yield result, explanation
            self._progress("explain", done, len(wanted))

    def _enough(self, share: float) -> bool:
        """Whether that share of the time for explaining is spent."""
        return self._seconds is not None and self._clock() - self._begin > share * self._seconds

    def _remedy(self, comparison: Comparison, family: int) -> Remedy | None:
        """The padding than which the pruned layer is proved slower, by most."""
        remedies = []
        for padded in padded_selves(comparison):
            verdict = self._quickly(padded.key, comparison.keys[1], family)
            if verdict and verdict.code is Code.SLOWER and verdict.ratio:
                remedies.append(Remedy(padded.channels(comparison.side), _inverse(verdict.ratio)))
        return min(remedies, key=lambda one: one.ratio.estimate, default=None)

    def _best(self, comparison: Comparison, family: int) -> Verdict | None:
        """The pruned layer's best plan against the unpruned layer as it was chosen."""
        return self._quickly(comparison.keys[0], Subject(comparison.candidate, BEST).key, family)

    def _explanation(self, result: Result, best: Verdict | None, remedy: Remedy | None) -> Explanation | None:
        """The cause, from the plans and the best plan's time."""
        if result.reference is None or result.candidate is None:
            return None
        processors = int(self._side.fingerprint.hardware.get("sms", 0))
        slower = result.verdict.code is Code.SLOWER
        return explain(result.reference.plan, result.candidate.plan, best, processors, remedy, slower)

    def _quickly(self, reference: str, candidate: str, family: int) -> Verdict | None:
        """A verdict on a pair from one process, both prepared anew for each pass; None where it can't be measured."""
        found = until_enough(
            self._judge, family, lambda number: self._side.measure_afresh(reference, candidate, self._blocks, number)
        )
        return None if isinstance(found, Failure) else self._judge(found, family)


def _inverse(ratio: Interval) -> Interval:
    """The ratio with its sides exchanged; a bound that was not reached is none."""
    return Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low)
