"""What became of each rule about known hazards in a run: it holds, is fixed, stale, hidden, expired, or not judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from neverslower.campaign.findings import Findings
from neverslower.judge.verdict import Code, Thresholds, Verdict
from neverslower.outcome.table import Finding, ruled
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.networks import NETWORKS, distinct_layers, network
from neverslower.rules.rule import Rule, Rules

Form = tuple[DType, Layout]
_GONE = (Code.SAME, Code.FASTER, Code.FEWER)
_SLOWER = (Code.SLOWER, Code.MORE)


@dataclass(frozen=True)
class AssessedRule:
    """What is said about one rule, and why."""

    rule: Rule
    finding: Finding
    why: str


@dataclass(frozen=True)
class Measured:
    """What rules are set against: the findings of a run, and the comparisons that it was asked for.

    A run is `whole` where it measures what its backend's runs usually do, so that a rule whose hazards it does not
    meet is news; `formats` and `sides` are those that were chosen.
    """

    findings: Findings
    comparisons: Sequence[Comparison]
    whole: bool
    formats: tuple[Form, ...] = ()
    sides: tuple[Side, ...] = (Side.OUT,)


def assess_rules(rules: Rules, backend: str, measured: Measured) -> Iterator[AssessedRule]:
    """Yield what became of each of a backend's rules, in their order."""
    earlier: list[Rule] = []
    for rule in rules.backends.get(backend, []):
        fingerprint = measured.findings.fingerprints.get(backend)
        if rule.expired(rules.today):
            yield AssessedRule(rule, Finding.RULE_EXPIRED, f"its last day was {rule.expires}; look at it again")
        elif fingerprint is None or not rule.is_about(fingerprint):
            there = f"{fingerprint.device} with version {fingerprint.version}" if fingerprint else "nothing"
            yield AssessedRule(rule, Finding.RULE_IDLE, f"it is not about what was measured: {there}")
        else:
            yield _assess(rule, Rules(tuple(earlier)), measured)
            earlier.append(rule)


def _assess(rule: Rule, earlier: Rules, measured: Measured) -> AssessedRule:
    matched = [comparison for comparison in measured.comparisons if rule.matches(comparison)]
    covered = [comparison for comparison in matched if earlier.covering(comparison) is None]
    codes = [_code(measured.findings, comparison) for comparison in covered]
    if slower := sum(code in _SLOWER for code in codes):
        return AssessedRule(rule, Finding.RULE_HOLDS, f"it covers {slower} of the {len(covered)} that it matches")
    if not measured.whole:
        return AssessedRule(rule, Finding.RULE_IDLE, "it covers no hazard of what was chosen")
    if not covered and (finding := _unmet(rule, earlier, matched, measured)):
        return finding
    if covered and all(code in _GONE for code in codes):
        return AssessedRule(rule, Finding.RULE_FIXED, f"all {len(covered)} that it matches are not slower; remove it")
    return AssessedRule(rule, Finding.RULE_IDLE, "what it matches was not measured, or not decided")


def _unmet(rule: Rule, earlier: Rules, matched: Sequence[Comparison], measured: Measured) -> AssessedRule | None:
    """Return what is wrong with a rule that covers nothing of a whole run, None where that is no mistake.

    A run measures a few counts of one network. So the catalogue decides, with every count of every layer.
    """
    everything = catalogue(rule.backend, measured.formats, measured.sides)
    also = [comparison for comparison in everything if rule.matches(comparison)]
    if not matched and not also:
        return AssessedRule(rule, Finding.RULE_STALE, "no layer matches it at any count; fix or remove it")
    if all(earlier.covering(comparison) for comparison in also):
        return AssessedRule(rule, Finding.RULE_SHADOWED, "earlier rules match all of it; remove it or put it first")
    return None


def explanation(rules: Rules, thresholds: Thresholds) -> Callable[[Comparison, Verdict], bool]:
    """Return what says whether one of these rules covers a drawn layer that is slower, and its ratio."""

    def explains(comparison: Comparison, verdict: Verdict) -> bool:
        rule = rules.covering(comparison)
        if rule is None:
            return False
        return ruled(Finding.HAZARD_FOUND, verdict.ratio, rule.ratios, thresholds) is Finding.RULE_KNOWS

    return explains


@cache
def catalogue(backend: str, formats: tuple[Form, ...], sides: tuple[Side, ...]) -> tuple[Comparison, ...]:
    """Return each distinct layer of every network, pruned to each of its counts on each side, in each format."""
    layers = distinct_layers([layer for name in NETWORKS for layer in network(name)])
    return tuple(
        Comparison(backend, formed, formed.problem.prune(distance, side), side)
        for layer in layers
        for formed in (layer.with_format(*form) for form in formats)
        for side in sides
        for distance in range(1, formed.problem.channels(side))
        if formed.problem.can_prune(distance, side)
    )


def _code(findings: Findings, comparison: Comparison) -> Code | None:
    result = findings.results.get(comparison.identity)
    return result.verdict.code if result else None
