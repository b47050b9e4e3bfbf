"""List what was found: each finding counted, and of those that say most the comparisons, under their common reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from neverslower.campaign.budget import CAME_LAST
from neverslower.campaign.findings import Identity
from neverslower.judge.accuracy import less_exact_text
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import UNREMARKABLE, Finding, said

LISTED = 10
_LISTED_ALONE = (
    Finding.REGRESSION,
    Finding.CHANGE_UNCONFIRMED,
    Finding.MORE_INSTRUCTIONS,
    Finding.HAZARD_WORSE,
    Finding.RULE_EXCEEDED,
    Finding.HAZARD_NEW,
    Finding.HAZARD_FIXED,
    Finding.HAZARD_FADED,
    Finding.VANISHED,
    Finding.CRASHED,
    Finding.INVALID,
    Finding.DROPPED,
    Finding.PLAN_CHANGED,
    Finding.LESS_EXACT,
    Finding.UNPRUNED_FASTER,
    Finding.IMPROVED,
    Finding.FEWER_INSTRUCTIONS,
    Finding.DISPATCH_DIFFERS,
    Finding.TUNED_LOG_MISS,
    Finding.SLOWER_EQUALLY_TUNED,
    Finding.HAZARD_BORDERLINE,
    Finding.HAZARD_UNDECIDED_BEFORE,
    Finding.UNDECIDED,
    Finding.DISTURBED,
    Finding.UNSUPPORTED,
)
_WORST_FIRST = (Finding.REGRESSION, Finding.CHANGE_UNCONFIRMED)
_ONE_STANDS_FOR_ALL = (Finding.INCOMPARABLE, Finding.NO_BASELINE, Finding.CHANGE_UNDECIDED)


def listing(assessed: Sequence[Assessed], elsewhere: Collection[Identity] = (), beside: bool = False) -> Iterator[str]:
    """Yield every finding that is not plain; what is listed `elsewhere` is not listed as undecided once more.

    `beside` says that another library was measured in this run, so that none of it is about a baseline.
    """
    by_finding: dict[Finding, list[Assessed]] = {}
    for item in assessed:
        for finding in (item.finding, *item.also):
            if finding is not Finding.UNDECIDED or item.comparison.identity not in elsewhere:
                by_finding.setdefault(finding, []).append(item)
    for finding in Finding:
        members = by_finding.get(finding, [])
        if not members or finding in UNREMARKABLE:
            continue
        yield f"{said(finding, beside)}: {len(members)}"
        if finding in _WORST_FIRST:
            members = sorted(members, key=lambda item: -item.verdict.ratio.estimate if item.verdict.ratio else 0.0)
        yield from _why_last(members)
        shown = _shown(finding, members)
        yield from _members(finding, members[:shown])
        if shown and len(members) > shown:
            yield f"  … and {len(members) - shown} more"


def _why_last(members: Sequence[Assessed]) -> Iterator[str]:
    """Yield how many of what the time budget left out came last, and why: nobody knows whether it is the same."""
    reasons = Counter(item.verdict.reason.text.partition(CAME_LAST)[2] for item in members)
    yield from (f"  {count} came last, for {why}" for why, count in reasons.items() if why)


def _shown(finding: Finding, members: Sequence[Assessed]) -> int:
    """Return how many of a finding are listed: one where the reason is the same for all of many."""
    reasons = {_reason(finding, item) for item in members}
    if finding in _WORST_FIRST or reasons == {""}:
        return LISTED
    if finding in _ONE_STANDS_FOR_ALL or (finding in _LISTED_ALONE and len(reasons) == 1 and len(members) > LISTED):
        return 1
    return LISTED if finding in _LISTED_ALONE else 0


def _members(finding: Finding, members: Sequence[Assessed]) -> Iterator[str]:
    """Yield each reason once, where there is one, and below it the comparisons that it holds for."""
    by_reason: dict[str, list[Assessed]] = {}
    for item in members:
        by_reason.setdefault(_reason(finding, item), []).append(item)
    for reason, sharing in by_reason.items():
        if reason:
            yield f"  {reason}"
        if finding is not Finding.VANISHED:
            yield from (f"  {'  ' if reason else ''}{_ratio(item)}{item.comparison.id}" for item in sharing)


def _reason(finding: Finding, item: Assessed) -> str:
    """Return why an item has a finding; the verdict's own reason is about the one that decides it."""
    if finding is item.finding:
        return _telling_line(item.verdict.reason.text)
    return less_exact_text(*item.errors) if finding is Finding.LESS_EXACT and item.errors else ""


def _ratio(item: Assessed) -> str:
    return f"{item.verdict.ratio}  " if item.verdict.ratio else ""


def _telling_line(text: str) -> str:
    """Return the first line of a reason, of a traceback the last one."""
    lines = text.splitlines() or [""]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
