"""What a reader sees before any script runs: the verdict, counts, devices, and what to do next, as words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from neverslower.evidence.observation import Evidence
from neverslower.judge.verdict import Code
from neverslower.outcome.table import Outcome
from neverslower.page.account import (
    LEFT_OUT,
    NOT_JUDGED,
    UNCONFIRMED,
    Account,
    Case,
    Kind,
    Source,
    Step,
    Whole,
    counted_as,
    in_words,
    titled,
)

_GRAVEST = (Code.SLOWER, Code.MORE, Code.CHANGED, Code.INVALID, Code.CRASHED, Code.UNDECIDED)
CODES = tuple(map(str, dict.fromkeys((*_GRAVEST[:3], UNCONFIRMED, *_GRAVEST[3:], LEFT_OUT, NOT_JUDGED, *Code))))
"""The verdicts in the order in which they are counted: the gravest first."""
LISTED = 5
"""So many failures are listed; the table has all."""
_TONES = {"RED": "bad", "GREEN": "good", "HAZARDS": "warn", "INCOMPLETE": "open"}
_EVIDENCE = {
    Evidence.DEVICE_TIME: "times",
    Evidence.INSTRUCTIONS: "counted instructions",
    Evidence.DISPATCH: "dispatched kernels",
}
_ESTIMATES = "estimates, no verdicts"


@dataclass(frozen=True)
class Counted:
    """How many cases of a source came out so; `code` is the verdict in a word, which a link to them has too."""

    code: str
    count: int

    @property
    def words(self) -> str:
        """Return the verdict as people read it."""
        return in_words(self.code)


@dataclass(frozen=True)
class OneSource:
    """A source on the first screen: its number, its title, what kind of evidence it holds, and its counts."""

    number: int
    title: str
    file: str
    evidence: str
    counts: tuple[Counted, ...]
    differs: tuple[str, ...]


@dataclass(frozen=True)
class FirstScreen:
    """The first screen: `tone` is how the verdict stands out, and `rest` the sentence without the verdict's word.

    `further` leaves out what the counts of the sources say, `failed` are the first of the `failures`.
    """

    title: str
    verdict: str
    tone: str
    rest: str
    further: tuple[str, ...]
    sources: tuple[OneSource, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    wholes: tuple[Whole, ...]
    worst: Case | None
    failed: tuple[Case, ...]
    failures: int


def first_screen(account: Account) -> FirstScreen:
    """Return what an account's first screen says."""
    verdict = account.verdict
    rest = account.sentence.removeprefix(verdict).removeprefix(":").strip() if verdict else account.sentence
    titles = tuple(f"{titled(source)}: " for source in account.sources)
    failed = [case for case in account.cases if case.outcome == Outcome.FAILED]
    tested = [(number, source) for number, source in enumerate(account.sources) if not _only_compared(number, account)]
    return FirstScreen(
        title=account.sentence,
        verdict=verdict,
        tone=_TONES.get(verdict, "bad") if verdict else "plain",
        rest=rest,
        further=tuple(line for line in account.further if not line.startswith(titles)),
        sources=tuple(_one(number, source, account) for number, source in tested),
        steps=account.steps or tuple(_suggested(account)),
        notes=account.notes,
        wholes=account.wholes,
        worst=_worst(account),
        failed=tuple(failed[:LISTED]),
        failures=len(failed),
    )


def key(case: Case) -> str:
    """Return what names a case in the page's address; ids alone may be those of several comparisons."""
    return f"{case.source}/{case.unpruned}>{case.problem}"


def kept(case: Case) -> str:
    """Return the channels of a case in words."""
    return f"{case.channels} {'padded from' if case.channels > case.whole else 'of'} {case.whole} channels"


def _only_compared(number: int, account: Account) -> bool:
    """Return whether a source is there only for others to be compared with."""
    return any(source.compared == number for source in account.sources)


def _one(number: int, source: Source, account: Account) -> OneSource:
    mine = [case for case in account.cases if case.source == number and case.problem != case.unpruned]
    counts = Counter(map(counted_as, mine))
    listed = tuple(Counted(code, counts[code]) for code in CODES if counts[code])
    evidence = _ESTIMATES if source.kind is Kind.GRID else _EVIDENCE[source.evidence]
    return OneSource(number, titled(source), source.name, evidence, listed, source.differs)


def _worst(account: Account) -> Case | None:
    """Return the case that is slower by most, or takes the most instructions more."""
    worse = [case for case in account.cases if case.code in (Code.SLOWER, Code.MORE) and case.ratio]
    tested = [case for case in worse if not _only_compared(case.source, account)]
    return max(tested, key=lambda case: case.ratio[0] if case.ratio else 0.0, default=None)


def _suggested(account: Account) -> Iterator[Step]:
    """Yield what to do next with a record of which no run says it."""
    worst = _worst(account)
    if worst and worst.again:
        yield Step("measure the worst one again", worst.again)
