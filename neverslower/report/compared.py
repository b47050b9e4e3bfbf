"""Two records of exact evidence, told: each problem that changed, and how many of each sort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from neverslower.baseline.diff import ProblemDiff
from neverslower.baseline.entry import Baseline
from neverslower.judge.verdict import Code
from neverslower.report.reproduction import software


def lines(before: Baseline, after: Baseline, changes: Sequence[ProblemDiff]) -> Iterator[str]:
    """The comparison, what is the same counted alone."""
    yield f"{before.evidence} of {software(before.fingerprint)} against {software(after.fingerprint)}"
    yield f"on {after.fingerprint.device}, {', '.join(f'{k} {v}' for k, v in after.fingerprint.state.items())}"
    for change in changes:
        if change.verdict is None or change.verdict.code is not Code.SAME:
            yield f"  {change}"
    counts = Counter(str(one.verdict.code) if one.verdict else "in one alone" for one in changes)
    yield f"{len(changes)} problems: {', '.join(f'{count} {code}' for code, count in counts.most_common())}"
