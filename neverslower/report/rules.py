"""Rules about known hazards in the summary: how many hazards each covers, and what is to be done about the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from neverslower.outcome.assessment import Assessed
from neverslower.outcome.known import AssessedRule
from neverslower.outcome.table import UNREMARKABLE, Finding


def rule_lines(ruled: Iterable[AssessedRule], assessed: Iterable[Assessed]) -> Iterator[str]:
    """Yield how many hazards each rule covers, or is exceeded by, and each rule that somebody should look at."""
    matched = [(item.finding, item.rule) for item in assessed if item.rule]
    for rule, count in Counter(rule for finding, rule in matched if finding is Finding.RULE_KNOWS).most_common():
        yield f"hazards that a rule covers: {count}: {rule}"
    for rule, count in Counter(rule for finding, rule in matched if finding is Finding.RULE_EXCEEDED).most_common():
        yield f"hazards worse than the ratios {list(rule.ratios)} of a rule: {count}: {rule}"
    for one in ruled:
        if one.finding not in UNREMARKABLE:
            yield f"{one.finding}: {one.why}: {one.rule}"
