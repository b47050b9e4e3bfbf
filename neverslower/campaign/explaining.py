"""Asks a library why something is slower: what its best plan takes, what padding takes, and what both plans launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Result
from neverslower.campaign.remedies import remedies
from neverslower.judge.cause import Explanation, Remedy, explain
from neverslower.judge.failure import Failure
from neverslower.judge.sequential import until_enough
from neverslower.judge.verdict import Code, Verdict
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.subject import BEST, Subject


def explain_slower(run: BackendRun, comparisons: Sequence[Compared]) -> None:
    """Say why what is slower is slower, where the library can tell."""
    mine = [comparison for comparison in comparisons if not comparison.whole and run.findings.has(comparison)]
    results = [run.findings.results[comparison.identity] for comparison in mine]
    wanted = [result for result in results if _wants_explaining(run, result)]
    if "explains" not in run.library.offers or not wanted:
        return
    for result, explanation in _Explainer(run).explain(wanted):
        run.findings.explain(result.comparison, explanation)
        run.library.write("explained", result.comparison.named | asdict(explanation))


def _wants_explaining(run: BackendRun, result: Result) -> bool:
    asked = result.comparison.asks_whether_slower and result.verdict.ratio is not None
    return asked and (run.settings.explain_all or result.verdict.code is Code.SLOWER)


class _Explainer:
    """Explains results as far as the time for it lasts: half of it is for remedies, the rest for causes."""

    def __init__(self, run: BackendRun) -> None:
        self._run, self._library, self._judge, self._settings = run, run.library, run.judge, run.settings
        self._phase = run.phase()
        self._begin = self._phase.begin

    def explain(self, results: Sequence[Result]) -> Iterator[tuple[Result, Explanation]]:
        """Give what is found of each, the worst first; from the plans alone once the time for it is over."""
        wanted = sorted(results, key=lambda result: -result.verdict.ratio.estimate if result.verdict.ratio else 0.0)
        anything = self._settings.explain_budget != 0
        if anything:
            self._library.leave_profiler()
        self._begin = self._run.clock()
        found = remedies(self._run, wanted, partial(self._spent, 0.5), self._phase.show) if anything else {}
        # A library may remember which plan a shape got in this process, so the best ones are looked for in another.
        if anything:
            self._library.holder.fresh(starts_more=False)
        for done, result in enumerate(wanted, start=1):
            best = None if self._spent(1.0) else self._best(result.comparison, len(wanted))
            if explanation := self._explanation(result, best, found.get(result.comparison)):
                yield result, explanation
            self._phase.show("explain", done, len(wanted))

    def _spent(self, share: float) -> bool:
        """Return whether that share of the time for explaining is spent."""
        seconds = self._settings.explain_budget
        return seconds is not None and self._run.clock() - self._begin >= share * seconds

    def _best(self, comparison: Comparison, family: int) -> Verdict | None:
        """Set the pruned layer's best plan against the unpruned layer as it was chosen."""
        return self._quickly(comparison.keys[0], Subject(comparison.candidate, BEST).key, family)

    def _explanation(self, result: Result, best: Verdict | None, remedy: Remedy | None) -> Explanation | None:
        """Return the cause, from the plans and the best plan's time."""
        if result.reference is None or result.candidate is None:
            return None
        processors = int(self._library.fingerprint.hardware.get("sms", 0))
        slower = result.verdict.code is Code.SLOWER
        return explain(result.reference.plan, result.candidate.plan, best, processors, remedy, slower)

    def _quickly(self, reference: str, candidate: str, family: int) -> Verdict | None:
        """Judge a pair from one process, both prepared anew for each pass; None where it can't be measured."""
        blocks = self._settings.blocks
        passes = until_enough(
            self._judge, family, lambda number: self._library.measure_afresh(reference, candidate, blocks, number)
        )
        return None if isinstance(passes, Failure) else self._judge(passes, family)
