"""List what accepting a run as the new baseline would change."""

from __future__ import annotations

from collections.abc import Iterable

from neverslower.baseline.entry import Baseline
from neverslower.campaign.findings import Result
from neverslower.judge.verdict import Code, Interval


def verdict_changes(before: Baseline | None, after: Iterable[Result]) -> list[str]:
    """Return a line for each new hazard, each vanished comparison, and each verdict that would change."""
    lines = []
    stored = dict(before.entries) if before else {}
    for result in after:
        entry = stored.pop((result.comparison.reference.key, result.comparison.candidate.key), None)
        now = result.verdict.code
        if entry is None:
            if before and now in (Code.SLOWER, Code.MORE):
                lines.append(f"new: {result.comparison.id} {_with_ratio(now, result.verdict.ratio)}")
        elif entry.known.code is not now:
            was = _with_ratio(entry.known.code, entry.known.ratio)
            lines.append(f"{result.comparison.id}: {was} → {_with_ratio(now, result.verdict.ratio)}")
    lines += [f"vanished: {entry.name}" for entry in stored.values()]
    return lines


def _with_ratio(code: Code, ratio: Interval | None) -> str:
    return f"{code} {ratio}" if ratio else str(code)
