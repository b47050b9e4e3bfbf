"""One pruned layer explained: the curve around it, both plans, the cause, the padding that helps, and the rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neverslower.campaign.findings import Findings, Result
from neverslower.evidence.observation import Evidence, Examined
from neverslower.judge.verdict import Verdict
from neverslower.maps.staircase import WORSE
from neverslower.outcome.table import Finding, ruled
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.report.reproduction import cause_lines, headline, software
from neverslower.rules.mining import Coverage, Mined
from neverslower.rules.reach import reach_text
from neverslower.rules.rule import Rule

_SHARES = ("hazards covered", "of what is covered, no hazard", "of what is no hazard, covered")
_MEASURES = {
    Evidence.DEVICE_TIME: "time over that",
    Evidence.INSTRUCTIONS: "instructions over those",
    Evidence.DISPATCH: "dispatch, set against that",
}


@dataclass(frozen=True)
class Curve:
    """One comparison that was asked about, and what was measured around it; `rule` covers it, if any does."""

    asked: Comparison
    findings: Findings
    rule: Rule | None = None

    @property
    def around(self) -> list[Result]:
        """Return what was measured, from few channels to many."""
        results = self.findings.results.values()
        side = self.asked.side
        return sorted(results, key=lambda result: result.comparison.candidate.channels(side))


def lines(curve: Curve) -> Iterator[str]:
    """Yield what is known of the comparison that was asked about."""
    asked, findings = curve.asked, curve.findings
    result = findings.results[asked.identity]
    fingerprint = findings.fingerprints[asked.backend]
    yield headline(asked)
    verdict = result.verdict
    yield f"  {verdict.code}{f' {verdict.ratio}' if verdict.ratio else ''}: {verdict.reason.text}"
    yield f"  {software(fingerprint)} on {fingerprint.device}"
    yield f"  case      {asked.id}"
    yield f"  problem   {asked.candidate.key}"
    yield f"  rule      {rule_text(curve.rule, verdict)}"
    yield from cause_lines(findings.explanations.get(asked.identity))
    yield from _plan("unpruned", result.reference)
    yield from _plan("pruned", result.candidate)
    noun = "input" if asked.side is Side.IN else "output"
    unpruned = f"{asked.reference.channels(asked.side)} {noun}"
    if asked.side is Side.TOGETHER:
        unpruned += f" and {asked.reference.in_channels} input"
    yield f"the curve around it ({_MEASURES[result.evidence]} of {unpruned} channels):"
    width = max(5, *(len(_counts(row.comparison)) for row in curve.around))
    for row in curve.around:
        mark = ">" if row.comparison.identity == asked.identity else " "
        plan = row.candidate.plan.name if row.candidate else "unknown"
        ratio = str(row.verdict.ratio or "")
        yield f"  {mark} {_counts(row.comparison):>{width}}  {ratio:21}  {row.verdict.code:9}  {plan}"


def _counts(comparison: Comparison) -> str:
    """Return the channels that are left, `113, 57` where both sides lost some."""
    left = str(comparison.candidate.channels(comparison.side))
    return f"{left}, {comparison.candidate.in_channels}" if comparison.side is Side.TOGETHER else left


def rule_text(rule: Rule | None, verdict: Verdict) -> str:
    """Return what the rule that matches a layer says of its verdict: a hazard may lie beyond the rule's ratios."""
    if rule is None:
        return "no rule covers it"
    if verdict.code not in WORSE:
        return f"it is not slower; a rule that matches it: {rule}"
    exceeded = ruled(Finding.HAZARD_FOUND, verdict.ratio, rule.ratios) is Finding.RULE_EXCEEDED
    return f"worse than the ratios {list(rule.ratios)} of {rule}" if exceeded else str(rule)


def _plan(name: str, examined: Examined | None) -> Iterator[str]:
    if examined is None:
        yield f"  {name:9} plan unknown"
        return
    yield f"  {name:9} plan {examined.plan}"
    yield from (f"            {step}" for step in examined.plan.steps)


def mined_lines(mined: Sequence[Mined], covered: Sequence[Coverage], held_out: Sequence[Coverage]) -> Iterator[str]:
    """Yield a table of mined rules: what each adds to the coverage of those before it, and how much of it is false.

    `covered` is of the layers of the record, and `held_out` of layers that the rules were not fitted on, if there are.
    """
    yield f"| rules | {' | '.join(_SHARES)} | on other layers: covered | no hazard | the rule added |"
    yield f"|---|{'---|' * (len(_SHARES) + 3)}"
    others = [f"{one.coverage:.1%} | {one.false_share:.1%}" for one in held_out] or ["? | ?"] * len(mined)
    for number, (rule, coverage, other) in enumerate(zip(mined, covered, others, strict=True), start=1):
        shares = (coverage.coverage, coverage.false_share, coverage.harmless_share)
        yield f"| {number} | {' | '.join(f'{share:.1%}' for share in shares)} | {other} | `{rule.when}` |"
    yield reach_text(held_out)
