"""A run's summary for a workflow's page: Markdown, the verdict first, in 60 lines at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from neverslower.campaign.findings import Findings, Identity
from neverslower.counted import counted
from neverslower.judge.cause import Explanation
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import UNREMARKABLE, Finding, Outcome, is_hazard, outcome_of, said
from neverslower.outcome.whole import AssessedWhole
from neverslower.report import run_verdict, upgrade, whole
from neverslower.report.overview import Overview
from neverslower.report.reproduction import software
from neverslower.report.terminal import baseline_words, losses, plans_of, states

MOST_LINES = 60
MOST_ROWS = 20
"""The most red ones that are shown; the rest is counted."""
MOST_HAZARDS = 12
"""The most hazards that are shown and fail nothing."""
MOST_CHANGES = 8
"""The most slower and the most faster channel counts that are shown where two libraries are compared."""
MOST_CHARACTERS = 200
"""A reason's first line is cut there: a traceback is no table cell."""
_NOT_COVERED = (
    Finding.OUT_OF_TIME,
    Finding.UNDECIDED,
    Finding.DISTURBED,
    Finding.CHANGE_UNCONFIRMED,
    Finding.CHANGE_UNDECIDED,
    Finding.NO_BASELINE,
    Finding.INCOMPARABLE,
    Finding.UNSUPPORTED,
    Finding.WHOLE_NOT_JUDGED,
)


def summary(overview: Overview) -> str:
    """Return the whole summary of a run."""
    lines = list(_lines(overview))
    if len(lines) > MOST_LINES:
        more = counted(len(lines) - MOST_LINES + 1, "more line")
        lines = [*lines[: MOST_LINES - 1], f"… and {more} in the terminal's summary"]
    return "\n".join(lines) + "\n"


def _lines(overview: Overview) -> Iterator[str]:
    verdict, findings, assessed, strict = overview.verdict, overview.findings, overview.assessed, overview.strict
    red = [item for item in assessed if _is_red(item, strict)]
    yield f"## never-slower: {_cell(run_verdict.headline(verdict))}"
    yield ""
    for line in run_verdict.further(verdict):
        yield from (f"{line}.", "")
    if not verdict.asked:
        return
    for whole_network in overview.wholes:
        yield from (f"- {_cell(line)}" for line in whole.lines(whole_network))
    if overview.wholes:
        yield ""
    yield from _table(red, findings.explanations, verdict.beside)
    yield from _hazards(assessed, findings, strict)
    if changes := overview.changes:
        yield from (f"{upgrade.totals(changes)}.", "", *upgrade.table(changes, MOST_CHANGES), "")
    yield from (f"- {_cell(line)}" for line in overview.acceptance[:1])
    yield from _other(assessed, strict, verdict.beside)
    yield from _not_covered(findings, [*assessed, *overview.wholes], verdict.beside, overview.unpaired)
    for name, fingerprint in findings.fingerprints.items():
        yield f"- {software(fingerprint)} on {fingerprint.device}; {baseline_words(overview.choices.get(name))}"
    yield from (f"- {_cell(line)}" for line in (*losses(findings), *states(findings)))


def _is_red(assessed: Assessed, strict: bool) -> bool:
    """Return whether an item fails."""
    return Outcome.FAILED in [outcome_of(finding, strict) for finding in (assessed.finding, *assessed.also)]


def _table(red: Sequence[Assessed], explanations: Mapping[Identity, Explanation], beside: bool) -> Iterator[str]:
    """Yield the red items that are proved, the largest ratio first; the others are counted as not covered."""
    proved = [item for item in red if item.finding not in _NOT_COVERED]
    if not proved:
        return
    yield "| what | channels | ratio | why |"
    yield "|---|---|---|---|"
    ranked = sorted(proved, key=lambda item: -(item.verdict.ratio.estimate if item.verdict.ratio else 0.0))
    yield from (_row(item, explanations, beside) for item in ranked[:MOST_ROWS])
    if len(ranked) > MOST_ROWS:
        yield f"| … and {len(ranked) - MOST_ROWS} more | | | |"
    yield ""


def _row(item: Assessed, explanations: Mapping[Identity, Explanation], beside: bool) -> str:
    comparison = item.comparison
    if item.finding is Finding.VANISHED:
        return f"| {_cell(item.verdict.reason.text)} | | | {item.finding} |"
    cause = explanations.get(comparison.identity)
    why = f"{said(item.finding, beside)}; {f'cause: {cause.cause}' if cause else _cell(item.verdict.reason.text)}"
    ratio = item.verdict.ratio or item.verdict.code
    return f"| {comparison.backend} {comparison.layer.name} | {comparison.counts} | {ratio} | {why} |"


def _hazards(assessed: Sequence[Assessed], findings: Findings, strict: bool) -> Iterator[str]:
    """Yield what is slower, known to no baseline and not red, the largest ratio first, with both plans."""
    hazards = [item for item in assessed if is_hazard(item.finding) and not _is_red(item, strict)]
    if not hazards:
        return
    yield "| hazard | channels | ratio | plans |"
    yield "|---|---|---|---|"
    hazards.sort(key=lambda item: -(item.verdict.ratio.estimate if item.verdict.ratio else 0.0))
    for item in hazards[:MOST_HAZARDS]:
        comparison, result = item.comparison, findings.results.get(item.comparison.identity)
        plans = _cell(plans_of(result)) if result else ""
        yield f"| {comparison.backend} {comparison.layer.name} | {comparison.counts} | {item.verdict.ratio} | {plans} |"
    if len(hazards) > MOST_HAZARDS:
        yield f"| … and {len(hazards) - MOST_HAZARDS} more | | | |"
    yield ""


def _other(assessed: Sequence[Assessed], strict: bool, beside: bool) -> Iterator[str]:
    """Yield what is worth a line though it is not red."""
    covered = UNREMARKABLE | set(_NOT_COVERED)
    counts = Counter(item.finding for item in assessed if item.finding not in covered and not _is_red(item, strict))
    if counts:
        yield f"- {', '.join(f'{count} × {said(finding, beside)}' for finding, count in counts.most_common())}"


def _not_covered(
    findings: Findings, assessed: Sequence[Assessed | AssessedWhole], beside: bool, unpaired: int
) -> Iterator[str]:
    counts = Counter(item.finding for item in assessed)
    named = [f"{counts[finding]} × {said(finding, beside)}" for finding in _NOT_COVERED if counts[finding]]
    named += [f"{unpaired} × without a pair"] if unpaired else []
    missing = [f"{name}: {_cell(why)}" for name, why in findings.unavailable.items()]
    yield f"- not covered: {'; '.join([*named, *missing])}" if named or missing else "- not covered: nothing"


def _cell(text: str) -> str:
    """Return a reason as one line of a table."""
    first = (text.strip().splitlines() or [""])[0].replace("|", "\\|")
    return first if len(first) <= MOST_CHARACTERS else f"{first[: MOST_CHARACTERS - 1]}…"
