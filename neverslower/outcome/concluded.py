"""What all items of a run conclude about each comparison, in words: the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import UNREMARKABLE, Finding, Outcome, outcome_of, said

EVENT = "concluded"
"""The journal's name for what was concluded about a comparison."""
_GRAVITY = (Outcome.FAILED, Outcome.XFAILED, Outcome.SKIPPED, Outcome.PASSED)


@dataclass(frozen=True)
class Concluded:
    """One finding about a comparison, as the summary lists it, and pytest's outcome for it."""

    finding: str
    outcome: str


def concluded(items: Iterable[Assessed], strict: bool, beside: bool) -> dict[Identity, tuple[Concluded, ...]]:
    """Return what is said of each comparison by all items that ask about it, each finding once, the gravest first.

    Unremarkable findings are left out where there are others. `beside` says that another library was measured too.
    """
    found: dict[Identity, list[Finding]] = {}
    for item in items:
        if item.finding is not Finding.VANISHED:  # What vanished is no comparison of this run.
            found.setdefault(item.comparison.identity, []).extend([item.finding, *item.also])
    return {identity: _in_words(findings, strict, beside) for identity, findings in found.items()}


def _in_words(findings: list[Finding], strict: bool, beside: bool) -> tuple[Concluded, ...]:
    worth = dict.fromkeys([finding for finding in findings if finding not in UNREMARKABLE] or findings)
    gravest = sorted(worth, key=lambda finding: _GRAVITY.index(outcome_of(finding, strict)))
    return tuple(Concluded(said(finding, beside), outcome_of(finding, strict).value) for finding in gravest)


def lines(items: Iterable[Assessed], strict: bool, beside: bool) -> Iterator[dict[str, Any]]:
    """Yield the journal's fields about each comparison of which something remarkable is said."""
    remarkable = [item for item in items if item.finding not in UNREMARKABLE or item.also]
    for (backend, reference, candidate), found in concluded(remarkable, strict, beside).items():
        about = [{"finding": each.finding, "outcome": each.outcome} for each in found]
        yield {"backend": backend, "reference": reference, "candidate": candidate, "findings": about}


def of_line(line: Mapping[str, Any]) -> tuple[Concluded, ...]:
    """Read a line of a journal. Raises KeyError or ValueError for what is none."""
    return tuple(Concluded(str(each["finding"]), Outcome(each["outcome"]).value) for each in line["findings"])
