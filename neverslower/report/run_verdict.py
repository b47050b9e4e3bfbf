"""The run's verdict in the same words everywhere: a first line with counts, further lines, and fields for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neverslower.outcome.run_verdict import RunCode, RunVerdict
from neverslower.outcome.tally import Lot, Question, Tally

_WORDS = {
    Question.TIMES: ("slower", "not slower"),
    Question.COUNTS: ("with more instructions", "with no more"),
    Question.DISPATCH: ("dispatched differently", "dispatched the same"),
    Question.TUNED: ("slower", "not slower"),
    Question.ADVICE: ("no faster", "faster"),
    Question.SINCE: ("slower", "not slower"),
    Question.SINCE_COUNTS: ("with more", "with no more"),
    Question.SINCE_DISPATCH: ("different", "the same"),
    Question.BESIDE: ("slower", "not slower"),
    Question.BESIDE_COUNTS: ("with more", "with no more"),
    Question.BESIDE_DISPATCH: ("different", "the same"),
    Question.RECORDED: ("", "recorded"),
    Question.OUTPUTS: ("", "right"),
    Question.DRAWN: ("slower", "not slower"),
    Question.DRAWN_OUTPUTS: ("", "right"),
}
"""How each question's answers are worded; what can only be right or fail has no word for the first one."""
_UNLABELLED = (Question.TIMES, Question.COUNTS, Question.DISPATCH, Question.RECORDED)
_NEEDS_NO_LINE = (Question.RECORDED,)
_REST = (Lot.UNDECIDED, Lot.LEFT_OUT, Lot.ABSENT, Lot.UNSUPPORTED, Lot.NOT_JUDGED, Lot.FAILED)
_CONFIRMS = (Question.TIMES, Question.SINCE, Question.BESIDE, Question.DRAWN)


def headline(verdict: RunVerdict) -> str:
    """Return the run's verdict in one line: `HAZARDS: 27 slower (25 confirmed), 181 not slower, of 208`."""
    decided = ""
    if verdict.code is RunCode.INCOMPLETE and verdict.share is not None:
        percent = int(100 * verdict.share + 1e-9)  # Rounded down: what is incomplete is not decided by 100 %.
        decided = f"{percent}% of {verdict.questions} questions decided"
    counts = tally_words(verdict.tallies[0], verdict.beside) if verdict.tallies else ""
    said = "; ".join(part for part in (verdict.why, counts, decided) if part)
    return f"{verdict.code}: {said}" if said else str(verdict.code)


def further(verdict: RunVerdict) -> Iterator[str]:
    """Yield a line for each further question; what is only recorded gets one where something is missing."""
    for tally in verdict.tallies[1:]:
        if tally.question not in _NEEDS_NO_LINE or tally.open or tally[Lot.FAILED]:
            yield tally_words(tally, verdict.beside)


def tally_words(tally: Tally, beside: bool = False) -> str:
    """Return such as `27 slower (25 confirmed), 181 not slower, 10 undecided, of 218`.

    `beside` says that the known ones are those of another library, and not of a baseline.
    """
    worse, better = _WORDS[tally.question]
    parts = [_worse(tally, worse, "with the other library too" if beside else "known")] if worse else []
    parts.append(f"{tally[Lot.NOT_SLOWER]} {better}")
    parts += [f"{tally[lot]} {lot}" for lot in _REST if tally[lot]]
    label = "" if tally.question in _UNLABELLED else f"{tally.question}: "
    return f"{label}{', '.join(parts)}, of {tally.total}"


def _worse(tally: Tally, word: str, known: str) -> str:
    """Return how many are slower; what is proved and not confirmed is counted there, and named separately."""
    slower, unconfirmed = tally[Lot.SLOWER], tally[Lot.UNCONFIRMED]
    apart = [f"{slower} confirmed"] if tally.question in _CONFIRMS and slower + unconfirmed else []
    apart += [f"{tally.known} {known}"] if tally.known else []
    return f"{slower + unconfirmed} {word}" + (f" ({', '.join(apart)})" if apart else "")


def fields(verdict: RunVerdict) -> dict[str, Any]:
    """Return the verdict as plain data, for the journal."""
    return {
        "verdict": str(verdict.code),
        "text": headline(verdict),
        "exit": verdict.exit_code,
        "share": None if verdict.share is None else round(verdict.share, 4),
        "counts": {
            str(tally.question): {str(lot): number for lot, number in tally.lots.items()} for tally in verdict.tallies
        },
        "failing": dict(verdict.failing),
        "hazards": dict(verdict.hazards),
    }


def properties(verdict: RunVerdict) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for a JUnit file's suite."""
    yield "verdict of the run", str(verdict.code)
    yield "what the run says", headline(verdict)
    if verdict.share is not None:
        yield "share decided", f"{verdict.share:.4f}"
