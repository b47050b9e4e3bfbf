"""Rules about known hazards in the summary: how many hazards each covers, and what is to be done about the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from neverslower.outcome.assessment import Assessed
from neverslower.outcome.known import AssessedRule
from neverslower.outcome.table import UNREMARKABLE, Finding


def rule_lines(ruled: Iterable[AssessedRule], assessed: Iterable[Assessed]) -> Iterator[str]:
    """Yield how many hazards each rule covers, and each rule that somebody should look at."""
    covered = Counter(item.rule for item in assessed if item.rule and item.finding is Finding.RULE_KNOWS)
    for rule, count in covered.most_common():
        yield f"hazards that a rule covers: {count}: {rule}"
    for one in ruled:
        if one.finding not in UNREMARKABLE:
            yield f"{one.finding}: {one.why}: {one.rule}"
