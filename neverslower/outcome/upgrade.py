"""What another library changes at each channel count: its own time, and whether pruning to it pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neverslower.baseline.entry import Known
from neverslower.campaign.findings import Findings, Result
from neverslower.evidence.observation import Evidence
from neverslower.judge.accuracy import growths, less_exact_text
from neverslower.judge.verdict import Code, Interval, Verdict
from neverslower.outcome.assessment import Assessed, Assessment
from neverslower.outcome.beside import plan_difference
from neverslower.outcome.table import Finding
from neverslower.problem.comparison import Comparison

FAILED = (Code.INVALID, Code.CRASHED, Code.UNSUPPORTED)
"""The verdicts of a library that gives no output, or a wrong one."""
_COSTS, _PAYS = (Code.SLOWER, Code.MORE), (Code.SAME, Code.FASTER, Code.FEWER)


@dataclass(frozen=True)
class Change:
    """One channel count, new against old.

    `ratio` is the new time over the old one; `before` and `now` are the ratios of pruned to unpruned on either side.
    `what` says what changed in the plan where the time did, `less_exact` how the error of the output grew where that
    is a finding, and `grew` what it needs much more of: workspace, or time of the first call. `broke` says that the
    newer library alone gives no output, or a wrong one; `evidence` is what the verdict rests on. `unconfirmed` is
    proved slower by the pairs, and the time ended before a further pair could show it again.
    """

    id: str
    layer: str
    channels: int
    unpruned: int
    code: Code
    reason: str
    ratio: Interval | None
    before_code: Code
    before: Interval | None
    now_code: Code
    now: Interval | None
    what: str
    less_exact: str = ""
    grew: tuple[str, ...] = ()
    broke: bool = False
    evidence: Evidence = Evidence.DEVICE_TIME
    unconfirmed: bool = False

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        verdict: Verdict,
        before: Known | Verdict,
        now: Verdict,
        what: str,
        less_exact: str = "",
        grew: tuple[str, ...] = (),
        evidence: Evidence = Evidence.DEVICE_TIME,
        unconfirmed: bool = False,
    ) -> Change:
        """Return what a verdict says of new against old; `before` and `now` are those on pruned against unpruned."""
        side = comparison.side
        return cls(
            id=comparison.id,
            layer=f"{comparison.layer.name} {comparison.candidate.dtype} {comparison.candidate.layout}",
            channels=comparison.candidate.channels(side),
            unpruned=comparison.reference.channels(side),
            code=verdict.code,
            reason=verdict.reason.text,
            ratio=verdict.ratio,
            before_code=before.code,
            before=before.ratio,
            now_code=now.code,
            now=now.ratio,
            what=what,
            less_exact=less_exact,
            grew=grew,
            broke=verdict.at_fault,
            evidence=evidence,
            unconfirmed=unconfirmed,
        )

    @property
    def proved(self) -> Code:
        """Return what the pairs prove, where that is SLOWER whether it was confirmed or not."""
        return Code.SLOWER if self.unconfirmed else self.code

    @property
    def new_hazard(self) -> bool:
        """Return whether pruning to this count costs time or instructions now, and was proved not to before."""
        return self.now_code in _COSTS and self.before_code in _PAYS

    @property
    def gone_hazard(self) -> bool:
        """Return whether it did before, and is proved not to now."""
        return self.before_code in _COSTS and self.now_code in _PAYS


def changes(assessment: Assessment, findings: Findings) -> Iterator[Change]:
    """Yield what changed at each channel count that both libraries were measured at, or examined at least."""
    for result in findings.results.values():
        comparison = result.comparison
        assessed = assessment.no_regression(comparison)
        if assessed.entry is None or result.candidate is None or comparison.studied:
            continue
        verdict, entry = assessed.verdict, assessed.entry
        unconfirmed = assessed.finding is Finding.CHANGE_UNCONFIRMED
        differs = unconfirmed or _is_another(verdict)
        yield Change.of(
            comparison,
            verdict,
            before=entry.known,
            now=result.verdict,
            what=str(plan_difference(entry.plan, result.candidate.plan)) if differs else "",
            less_exact=accuracy_of(assessed),
            grew=tuple(_grew(assessment.before, result)),
            evidence=result.evidence,
            unconfirmed=unconfirmed,
        )


def accuracy_of(assessed: Assessed) -> str:
    """Return how the error of an output grew, an empty string where that is no finding."""
    return less_exact_text(*assessed.errors) if assessed.errors else ""


def _grew(before: Findings | None, now: Result) -> list[str]:
    other = before.results.get(now.comparison.identity) if before else None
    return growths(other.candidate, now.candidate) if other and other.candidate and now.candidate else []


def _is_another(verdict: Verdict) -> bool:
    return verdict.code in (Code.SLOWER, Code.FASTER, Code.MORE, Code.FEWER, Code.CHANGED)
