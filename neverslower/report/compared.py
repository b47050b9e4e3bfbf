"""Report how two records of exact evidence differ: each problem that changed, and how many of each verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from neverslower.baseline.diff import ProblemDiff
from neverslower.baseline.entry import Baseline
from neverslower.counted import counted
from neverslower.judge.verdict import Code
from neverslower.report.reproduction import software


def lines(before: Baseline, after: Baseline, diffs: Sequence[ProblemDiff]) -> Iterator[str]:
    """Yield what is compared, each problem that changed, and the count of each verdict."""
    yield f"{before.evidence} of {software(before.fingerprint)} against {software(after.fingerprint)}"
    yield f"on {after.fingerprint.device}, {', '.join(f'{k} {v}' for k, v in after.fingerprint.state.items())}"
    for diff in diffs:
        if diff.verdict is None or diff.verdict.code is not Code.SAME:
            yield f"  {diff}"
    counts = Counter(str(diff.verdict.code) if diff.verdict else "in only one record" for diff in diffs)
    yield f"{counted(len(diffs), 'problem')}: {', '.join(f'{count} {code}' for code, count in counts.most_common())}"
