"""What a whole run says, from what was asked of it and what it found; pure, and made in this one place.

The first of these that holds counts: pytest's own endings, RED, CANNOT JUDGE, HAZARDS, INCOMPLETE, GREEN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings
from neverslower.enums import StrEnum
from neverslower.hunt.hunting import Hunted
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.outcome.assessment import Assessed, Assessment
from neverslower.outcome.table import Finding, Outcome, is_hazard, outcome_of, said
from neverslower.outcome.tally import COMPARED, Lot, Question, Questions, Tally, tallies, tally_of_hunts
from neverslower.outcome.whole import AssessedWhole

CANNOT_JUDGE = 6
"""The exit code of a run whose environment makes judging impossible, or that decided nothing of what it was asked."""
BISECT_SKIPS = 125
"""`git bisect run` leaves out a revision that ends so, and gives up where one ends above 127."""
BROKEN = 128
LEAST_DECIDED = 0.95
"""The share of what was asked that a strict run must have decided, unless the user says otherwise."""


class RunCode(StrEnum):
    """What a run says, in a word or two."""

    INTERRUPTED = "INTERRUPTED"
    INTERNAL_ERROR = "INTERNAL ERROR"
    USAGE_ERROR = "USAGE ERROR"
    NOT_ACCEPTED = "NOT ACCEPTED"
    NOTHING_COLLECTED = "NOTHING COLLECTED"
    RED = "RED"
    CANNOT_JUDGE = "CANNOT JUDGE"
    HAZARDS = "HAZARDS"
    INCOMPLETE = "INCOMPLETE"
    GREEN = "GREEN"


ENDINGS = {
    RunCode.INTERRUPTED: 2,
    RunCode.INTERNAL_ERROR: 3,
    RunCode.USAGE_ERROR: 4,
    RunCode.NOT_ACCEPTED: 4,
    RunCode.NOTHING_COLLECTED: 5,
}
"""pytest's exit codes of runs that did not come to judging, or whose baseline was refused."""


@dataclass(frozen=True)
class Asked:
    """What a run was asked for.

    `required` and `against` name backends: those that must be there, and those that are compared with another
    library. `hindrance` says why there is nothing to ask. `strict` is --strict-verdicts, and `least_decided` the share
    of the questions that must then be decided. `unmet` says why something asked can't be answered, whatever is
    measured.
    """

    questions: Questions = field(default_factory=Questions)
    required: Collection[str] = ()
    against: Collection[str] = ()
    hindrance: str | None = None
    strict: bool = False
    least_decided: float = LEAST_DECIDED
    unmet: str = ""


@dataclass(frozen=True)
class Came:
    """What a run came to.

    `ending` is pytest's own one, with the reason `why`, and `failed_items` says that some item failed. `slow_hunts`
    and `output_hunts` are those that came to an end, `vanished` counts the baselines' entries that nothing measures,
    and `beyond` what --benchmark-compare-fail refuses. `rules` are the findings about the rules that are items.
    """

    assessment: Assessment
    slow_hunts: Sequence[Hunted] = ()
    output_hunts: Sequence[Hunted] = ()
    vanished: int = 0
    failed_items: bool = False
    ending: RunCode | None = None
    why: str = ""
    beyond: int = 0
    rules: Sequence[Finding] = ()


@dataclass(frozen=True)
class RunVerdict:
    """What a run says: the first row of the table that holds, why, and the counts behind it, by question.

    `failing` counts the findings that fail, `hazards` those that would if the run were strict; `asked` says whether
    the run's items asked anything, `beside` whether it compared with another library and not with a baseline.
    """

    code: RunCode
    why: str = ""
    tallies: tuple[Tally, ...] = ()
    failing: Mapping[str, int] = field(default_factory=dict)
    hazards: Mapping[str, int] = field(default_factory=dict)
    strict: bool = False
    least_decided: float = LEAST_DECIDED
    asked: bool = True
    beside: bool = False

    @property
    def questions(self) -> int:
        """How many questions were asked, without those that the library refused and what failed."""
        return sum(tally.decided + tally.open for tally in self.tallies)

    @property
    def share(self) -> float | None:
        """The share of the questions that was decided; None where there was none, or the library refused all."""
        return sum(tally.decided for tally in self.tallies) / self.questions if self.questions else None

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        if self.code in ENDINGS:
            return ENDINGS[self.code]
        codes = {RunCode.RED: 1, RunCode.CANNOT_JUDGE: CANNOT_JUDGE, RunCode.INCOMPLETE: int(not self._complete_enough)}
        return codes.get(self.code, 0)

    @property
    def _complete_enough(self) -> bool:
        """Whether an incomplete run passes: each does that is not strict, a strict one where only a little is left.

        A device that became unfit, which is the one reason `why` a run is incomplete, spoils a strict one.
        """
        begun_and_open = sum(tally.begun_and_open for tally in self.tallies)
        return not self.strict or not (begun_and_open or self.why or (self.share or 0.0) < self.least_decided)

    @property
    def bisect_code(self) -> int:
        """The exit code for `git bisect run`: 0 good, 1 bad, 125 cannot judge, above 127 broken."""
        if self.code in ENDINGS:
            return BROKEN + ENDINGS[self.code]
        open_ = self.code in (RunCode.CANNOT_JUDGE, RunCode.INCOMPLETE) or self._may_have_regressed
        return BISECT_SKIPS if open_ and self.code is not RunCode.RED else self.exit_code

    @property
    def _may_have_regressed(self) -> bool:
        """Whether something is proved slower than it was, and not confirmed: a commit that does this is not good."""
        since = [tally for tally in self.tallies if tally.question in (Question.SINCE, Question.BESIDE)]
        return any(tally[Lot.UNCONFIRMED] for tally in since)


def judge_run(asked: Asked, came: Came) -> RunVerdict:
    """Return the run's verdict: the first row of the table that holds."""
    if came.ending in (RunCode.INTERNAL_ERROR, RunCode.NOTHING_COLLECTED):  # Nothing behind it can be relied on.
        return RunVerdict(came.ending, came.why, asked=bool(asked.questions))
    findings = list(_findings(asked.questions, came))
    beside = bool(asked.against)
    failed = (finding for finding in findings if outcome_of(finding, asked.strict) is Outcome.FAILED)
    failing = Counter(said(finding, beside) for finding in failed)
    hazards = Counter(said(finding, beside) for finding in findings if is_hazard(finding))
    counted = tuple(_tallies(asked.questions, came))
    code, why = _row(asked, came, counted, failing, hazards)
    return RunVerdict(
        code,
        why,
        counted,
        failing=dict(failing),
        hazards=dict(hazards),
        strict=asked.strict,
        least_decided=asked.least_decided,
        asked=bool(asked.questions),
        beside=beside,
    )


def _row(
    asked: Asked, came: Came, counted: Sequence[Tally], failing: Mapping[str, int], hazards: Mapping[str, int]
) -> tuple[RunCode, str]:
    """Return the first row of the table that holds, with the reason where the counts do not say it."""
    if came.ending:
        return came.ending, came.why
    if failing or came.failed_items or came.beyond:
        listed = sorted(failing.items(), key=lambda pair: -pair[1])
        listed += [("beyond --benchmark-compare-fail", came.beyond)] if came.beyond else []
        return RunCode.RED, ", ".join(f"{count} × {finding}" for finding, count in listed) or "a test failed"
    if trouble := cannot_judge(asked, came, counted):
        return RunCode.CANNOT_JUDGE, trouble
    spoiled = next(_spoiled(came.assessment.findings), "")
    if hazards:
        return RunCode.HAZARDS, spoiled
    left = spoiled or any(tally.open for tally in counted)
    return (RunCode.INCOMPLETE if left else RunCode.GREEN), spoiled


def _spoiled(findings: Findings) -> Iterator[str]:
    """Yield which device became unfit while it measured, and why."""
    for name, spoiled in findings.spoiled.items():
        yield f"{name}: its device became unfit in the middle of the run: {spoiled.why}"


def _none_decided_since(findings: Findings) -> str | None:
    """Return which device became unfit while it measured, if nothing of it was decided after that, or None."""
    for (name, spoiled), text in zip(findings.spoiled.items(), _spoiled(findings), strict=True):
        since = (
            verdict
            for identity, verdict in findings.verdicts.items()
            if identity[0] == name and identity not in spoiled.finished
        )
        if not spoiled.hunting and not any(
            verdict.code.measured and verdict.code is not Code.UNDECIDED for verdict in since
        ):
            return f"{text}; nothing was decided after that"
    return None


def _findings(questions: Questions, came: Came) -> Iterator[Finding]:
    """Yield every finding about what was asked, those listed with a deciding one too."""
    assessment = came.assessment
    items: list[Assessed | AssessedWhole] = [assessment.never_slower(comparison) for comparison in questions.slower]
    items += [assessment.whole(comparison) for comparison in questions.wholes]
    items += [assessment.no_regression(comparison) for comparison in questions.recorded]
    items += [assessment.equal_outputs(comparison) for comparison in questions.checked]
    items += [assessment.tuned_log(case) for case in questions.cases]
    items += [assessment.advised(comparison, advice) for comparison, advice in questions.advised.items()]
    for item in items:
        yield from (item.finding, *item.also)
    yield from (Finding.VANISHED for _ in range(came.vanished))
    yield from came.rules
    for hunted in (*came.slow_hunts, *came.output_hunts):
        yield from (Finding.HAZARD_FOUND for _ in hunted.found)
        for failure in hunted.failures:
            yield Finding.INVALID if failure.verdict.code is Code.INVALID else Finding.CRASHED


def _tallies(questions: Questions, came: Came) -> Iterator[Tally]:
    yield from tallies(questions, came.assessment)
    if questions.slow_hunts:
        yield tally_of_hunts(Question.DRAWN, came.slow_hunts, questions.slow_hunts)
    if questions.output_hunts:
        yield tally_of_hunts(Question.DRAWN_OUTPUTS, came.output_hunts, questions.output_hunts)


def cannot_judge(asked: Asked, came: Came, counted: Sequence[Tally]) -> str | None:
    """Return why a run can't judge, or None: an unfit device, what is missing, or evidence without one decision."""
    findings = came.assessment.findings
    if asked.hindrance and not asked.questions:
        return asked.hindrance
    if asked.unmet:
        return asked.unmet
    if findings.refused:
        name = min(findings.refused)
        return f"{name}: {findings.unavailable[name]}"
    missing = [name for name in asked.required if name in findings.unavailable]
    if missing:
        return f"{missing[0]} is required, and unavailable: {findings.unavailable[missing[0]]}"
    for name in asked.against:
        if trouble := _without_the_other(name, came.assessment, came.assessment.choices.get(name)):
            return f"{name}: {trouble}"
    if lost := findings.lost[ReasonCode.INTERRUPTED]:
        return f"the run ended before {lost} of {findings.wanted.total()} verdicts"
    return _none_decided_since(findings) or _without_evidence(counted)


def _without_the_other(name: str, assessment: Assessment, choice: BaselineChoice | None) -> str | None:
    """Return why a backend that was measured was not set against the other library, or not to the end."""
    before = assessment.before or Findings()
    if lost := before.alone.get(name):
        return f"the other library was lost: {lost}"
    results = assessment.findings.results.items()
    measured = any(backend == name and result.verdict.code.measured for (backend, *_), result in results)
    if measured and not (choice and choice.baseline and choice.baseline.entries):
        return "nothing of the other library could be measured, so there is nothing to compare with"
    return None


def _without_evidence(counted: Sequence[Tally]) -> str | None:
    """Return which kind of evidence that was asked for has not one decision, or None.

    What is asked of a baseline needs a measurement alone: that nothing is stored makes the run incomplete.
    """
    kinds: dict[str, int] = {}
    for tally in counted:
        drawn = tally.question is Question.DRAWN_OUTPUTS
        kind = str(Question.DRAWN if drawn else COMPARED.get(tally.question, tally.question))
        enough = tally.measured if tally.question in COMPARED else tally.decided
        kinds[kind] = kinds.get(kind, 0) + enough
    if kinds and not any(kinds.values()):
        return "nothing was decided"
    undecided = [kind for kind, decided in kinds.items() if not decided]
    return f"nothing was decided about {', '.join(undecided)}" if undecided else None
