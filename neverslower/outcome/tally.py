"""What became of each question that a run was asked: counts, made from verdicts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neverslower.campaign.findings import Findings, Identity, ResultOf
from neverslower.device.fingerprint import Fingerprint
from neverslower.enums import StrEnum
from neverslower.evidence.observation import Evidence
from neverslower.hunt.hunting import Hunted
from neverslower.judge.verdict import STANDARD, Code, ReasonCode, Verdict, decide
from neverslower.outcome.assessment import Assessed, Assessment
from neverslower.outcome.table import Finding
from neverslower.outcome.tuned_log import Case
from neverslower.outcome.whole import AssessedWhole
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import WholeComparison


@dataclass(frozen=True)
class Questions:
    """What a run's items ask: of which comparisons whether the pruned layer is slower, what each channel count takes,
    whether outputs are right, which pruned networks are slower as a whole, the cases of the study of tuned logs, and
    which advised counts are faster, each with the fingerprint that it was advised for; `hunts` counts those through
    drawn layers.
    """

    slower: Sequence[Comparison] = ()
    recorded: Sequence[Comparison] = ()
    checked: Sequence[Comparison] = ()
    wholes: Sequence[WholeComparison] = ()
    cases: Sequence[Case] = ()
    advised: Mapping[Comparison, Fingerprint] = field(default_factory=dict)
    slow_hunts: int = 0
    output_hunts: int = 0

    @property
    def timed(self) -> list[Compared]:
        """Every comparison that must be measured for these questions."""
        of_cases = (needed for case in self.cases for needed in case.comparisons)
        return [*self.wholes, *self.recorded, *self.slower, *of_cases, *self.advised]

    @property
    def hunts(self) -> int:
        """Hunts through drawn layers, for slow ones and for wrong outputs."""
        return self.slow_hunts + self.output_hunts

    def __bool__(self) -> bool:
        """Return whether anything is asked."""
        items = (self.slower, self.wholes, self.recorded, self.checked, self.cases, self.advised, self.hunts)
        return any(items)


class Question(StrEnum):
    """What is asked; the first three are one question, by the evidence that answers it, as are those against others."""

    TIMES = "times"
    COUNTS = "counts"
    DISPATCH = "dispatch"
    TUNED = "tuned logs"
    ADVICE = "advised counts"
    SINCE = "against the baseline"
    SINCE_COUNTS = "instructions against the baseline"
    SINCE_DISPATCH = "dispatches against the baseline"
    BESIDE = "against the other library"
    BESIDE_COUNTS = "instructions against the other library"
    BESIDE_DISPATCH = "dispatches against the other library"
    RECORDED = "recorded"
    OUTPUTS = "outputs"
    DRAWN = "drawn layers"
    DRAWN_OUTPUTS = "outputs of drawn layers"


class Lot(StrEnum):
    """What became of one question about one comparison.

    LEFT_OUT was never begun; what was begun and not decided is UNDECIDED, whoever ended it. UNCONFIRMED is proved
    slower by the passes and was not shown again by a later process. ABSENT has nothing stored to be compared with.
    NOT_JUDGED is a whole network that does not run.
    """

    SLOWER = "worse"
    UNCONFIRMED = "unconfirmed"
    NOT_SLOWER = "no worse"
    UNDECIDED = "undecided"
    LEFT_OUT = "left out"
    ABSENT = "nothing to compare with"
    NOT_JUDGED = "not judged"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"


WITHOUT_END = (Question.DRAWN, Question.DRAWN_OUTPUTS)
"""What has no end, so that nothing of it can be left open."""
DECIDED = (Lot.SLOWER, Lot.NOT_SLOWER)
OPEN = (Lot.UNCONFIRMED, Lot.UNDECIDED, Lot.LEFT_OUT, Lot.ABSENT, Lot.NOT_JUDGED)
BEGUN_AND_OPEN = (Lot.UNCONFIRMED, Lot.UNDECIDED, Lot.NOT_JUDGED)
NEVER_BEGUN = (ReasonCode.TIME_BUDGET, ReasonCode.INTERRUPTED, ReasonCode.BACKEND_UNAVAILABLE)
"""Why something undecided was left out; each is given only to what has no samples."""
_WORSE = (Code.SLOWER, Code.MORE, Code.CHANGED)
_LOTS = {
    Code.UNSUPPORTED: Lot.UNSUPPORTED,
    Code.CRASHED: Lot.FAILED,
    Code.INVALID: Lot.FAILED,
    Code.NO_BASELINE: Lot.ABSENT,
    Code.INCOMPARABLE: Lot.ABSENT,
}
_BY_EVIDENCE = {
    Evidence.DEVICE_TIME: Question.TIMES,
    Evidence.INSTRUCTIONS: Question.COUNTS,
    Evidence.DISPATCH: Question.DISPATCH,
}
_SINCE = {
    Evidence.DEVICE_TIME: Question.SINCE,
    Evidence.INSTRUCTIONS: Question.SINCE_COUNTS,
    Evidence.DISPATCH: Question.SINCE_DISPATCH,
}
_BESIDE = {
    Evidence.DEVICE_TIME: Question.BESIDE,
    Evidence.INSTRUCTIONS: Question.BESIDE_COUNTS,
    Evidence.DISPATCH: Question.BESIDE_DISPATCH,
}
COMPARED = dict.fromkeys(_SINCE.values(), Question.SINCE) | dict.fromkeys(_BESIDE.values(), Question.BESIDE)
"""What is asked of a baseline, or of another library: one question each, whichever evidence answers it."""


@dataclass(frozen=True)
class Tally:
    """One question over all comparisons that it was asked of; `known` of the slower ones are in a baseline."""

    question: Question
    lots: Mapping[Lot, int] = field(default_factory=dict)
    known: int = 0

    def __getitem__(self, lot: Lot) -> int:
        """Return how many comparisons had this lot."""
        return self.lots.get(lot, 0)

    @property
    def total(self) -> int:
        """How many comparisons the question was asked of."""
        return sum(self.lots.values())

    @property
    def decided(self) -> int:
        """How many were decided, what was confirmed among them and what was not confirmed apart."""
        return sum(self[lot] for lot in DECIDED)

    @property
    def measured(self) -> int:
        """How many have a measurement behind them, decided or not."""
        return self.decided + self[Lot.UNCONFIRMED] + self[Lot.UNDECIDED] + self[Lot.ABSENT]

    @property
    def open(self) -> int:
        """How many are open; of layers that nobody listed none is, for a hunt has no end."""
        return 0 if self.question in WITHOUT_END else sum(self[lot] for lot in OPEN)

    @property
    def begun_and_open(self) -> int:
        """How many were begun and are not decided."""
        return 0 if self.question in WITHOUT_END else sum(self[lot] for lot in BEGUN_AND_OPEN)


def proved_unconfirmed(verdict: Verdict) -> bool:
    """Return whether the passes proved a layer slower, and no later process confirmed it.

    Where the budget ended first, the ratio says so: it is one of which a judge says SLOWER.
    """
    if verdict.code is not Code.UNDECIDED:
        return False
    if verdict.reason.code is ReasonCode.NOT_CONFIRMED:
        return True
    ended = verdict.reason.code is ReasonCode.BUDGET_ENDED
    return bool(ended and verdict.ratio and decide(verdict.ratio, STANDARD)[0] is Code.SLOWER)


def lot_of(verdict: Verdict, finding: Finding, unconfirmed: bool = False) -> Lot:
    """Return what became of one comparison, from its verdict and what that means for its item."""
    if finding is Finding.DROPPED:
        return Lot.FAILED
    if finding is Finding.WHOLE_NOT_JUDGED:
        return Lot.NOT_JUDGED
    if finding is Finding.DISTURBED:
        return Lot.UNDECIDED
    if finding is Finding.CHANGE_UNCONFIRMED:
        return Lot.UNCONFIRMED
    if finding in (Finding.RECORDED, Finding.RIGHT, Finding.ADVICE_HOLDS):
        return Lot.NOT_SLOWER
    if finding is Finding.ADVICE_BROKEN:
        return Lot.SLOWER
    if verdict.code is Code.UNDECIDED:
        never_begun = verdict.reason.code in NEVER_BEGUN
        return Lot.UNCONFIRMED if unconfirmed else Lot.LEFT_OUT if never_begun else Lot.UNDECIDED
    if lot := _LOTS.get(verdict.code):
        return lot
    return Lot.SLOWER if verdict.code in _WORSE else Lot.NOT_SLOWER


def tally(
    question: Question,
    items: Iterable[Assessed | AssessedWhole],
    results: Mapping[Identity, ResultOf[Any]] | None = None,
) -> Tally:
    """Count what became of a question; `results` show what is proved and not confirmed, where that can be."""
    lots: Counter[Lot] = Counter()
    known = 0
    for item in items:
        result = results.get(item.comparison.identity) if results else None
        lots[lot_of(item.verdict, item.finding, bool(result and proved_unconfirmed(result.verdict)))] += 1
        known += item.finding in (Finding.HAZARD_KNOWN, Finding.RULE_KNOWS)
    return Tally(question, dict(lots), known)


def evidence_of(findings: Findings, comparison: Comparison) -> Evidence:
    """Return what a comparison was measured in; of what was never begun, what its backend gave elsewhere, or times."""
    if result := findings.results.get(comparison.identity):
        return result.evidence
    backend = comparison.backend
    return next((r.evidence for (name, *_), r in findings.results.items() if name == backend), Evidence.DEVICE_TIME)


def tally_of_hunts(question: Question, hunts: Sequence[Hunted], asked: int) -> Tally:
    """Count what hunts came to; one that could not begin left out everything."""
    lots: Counter[Lot] = Counter({Lot.LEFT_OUT: asked - len(hunts)})
    for hunted in hunts:
        codes, confirmed = Counter(hunted.counts), len(hunted.found)
        lots[Lot.SLOWER] += confirmed
        lots[Lot.UNCONFIRMED] += codes[Code.SLOWER] - confirmed + hunted.unconfirmed
        lots[Lot.NOT_SLOWER] += codes[Code.SAME] + codes[Code.FASTER]
        lots[Lot.UNDECIDED] += codes[Code.UNDECIDED] - hunted.unconfirmed
        lots[Lot.UNSUPPORTED] += codes[Code.UNSUPPORTED]
        lots[Lot.FAILED] += codes[Code.CRASHED] + codes[Code.INVALID]
    return Tally(question, dict(+lots))


def tallies(asked: Questions, assessment: Assessment) -> Iterator[Tally]:
    """Count what became of each question that was asked of listed layers, the first one first."""
    findings = assessment.findings
    results: dict[Identity, ResultOf[Any]] = {**findings.results, **findings.wholes}
    by_evidence: dict[Question, list[Assessed | AssessedWhole]] = {}
    for comparison in asked.slower:
        question = _BY_EVIDENCE[evidence_of(findings, comparison)]
        by_evidence.setdefault(question, []).append(assessment.never_slower(comparison))
    if asked.wholes:
        by_evidence.setdefault(Question.TIMES, []).extend(map(assessment.whole, asked.wholes))
    yield from (tally(question, by_evidence[question], results) for question in Question if question in by_evidence)
    if asked.cases:
        yield tally(Question.TUNED, map(assessment.tuned_log, asked.cases))
    if asked.advised:
        yield tally(Question.ADVICE, (assessment.advised(*advised) for advised in asked.advised.items()))
    yield from _recorded(asked.recorded, assessment)
    if checked := [comparison for comparison in asked.checked if _computed(findings, comparison)]:
        yield tally(Question.OUTPUTS, map(assessment.equal_outputs, checked))


def _recorded(recorded: Sequence[Comparison], assessment: Assessment) -> Iterator[Tally]:
    """Count what channel counts came to against a baseline or another library, by the evidence, or what is recorded."""
    by_evidence = _BESIDE if assessment.before is not None else _SINCE
    asked: dict[Question, list[Comparison]] = {}
    for comparison in recorded:
        evidence = evidence_of(assessment.findings, comparison)
        asked.setdefault(by_evidence[evidence] if assessment.comparing else Question.RECORDED, []).append(comparison)
    for question, comparisons in asked.items():
        yield tally(question, map(assessment.no_regression, comparisons))


def _computed(findings: Findings, comparison: Comparison) -> bool:
    """Return whether there can be an output: where a dispatch is recorded, nothing is computed."""
    return evidence_of(findings, comparison) is not Evidence.DISPATCH
