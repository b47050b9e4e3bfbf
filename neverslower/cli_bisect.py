"""The command that finds which release made a layer slower: it lists releases, measures pairs, and traces each case."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neverslower import options as option_plan
from neverslower.campaign import resume
from neverslower.campaign.progress import Progress
from neverslower.cli_maps import ROOT
from neverslower.cli_shared import StepsOnStderr, require_installed, step_on_stderr
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.files.journal import Journal, new_journal
from neverslower.judge.sequential import THOROUGH
from neverslower.judge.verdict import Code, Verdict
from neverslower.option_table import GROUPS, OPTIONS
from neverslower.option_values import library
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.beside import plan_difference
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from neverslower.outcome.table import Finding, Outcome, outcome_of, said, unmeasured
from neverslower.outcome.tally import Questions
from neverslower.outcome.upgrade import accuracy_of
from neverslower.problem.comparison import Comparison
from neverslower.releases.between import releases_from, without_a_list
from neverslower.releases.providing import provided
from neverslower.report import bisect as report
from neverslower.run import Run
from neverslower.run_plan import RunPlan
from neverslower.tracing import record
from neverslower.tracing.culprits import Culprit, Seen, State, Step, Trace
from neverslower.tracing.record import Recorded
from neverslower.worker.process import LOCAL, WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_NOT_OURS = {
    "against", "worker", "require-backend", "strict-verdicts", "least-decided", "journal", "resume", "exit-codes",
    "accept-baseline", "baselines", "advised", "explain", "explain-budget", "hunt-budget", "trials", "tuning-budget",
    "pruned", "report", "verdicts", "hazards",
}  # fmt: skip
"""Options of pytest that mean nothing here."""
_OURS = [option for group in GROUPS for option in group.options if option.key not in _NOT_OURS]


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "bisect",
        help="which release made which layer slower: the releases between a good and a bad one, measured side by side",
        description="Measures the bad release against the good one, and traces each channel count that got worse to "
        "the release that brought it. Exit code 1 where something got worse, 6 where nothing could be decided, or what "
        "got slower could not be shown again in time.",
    )
    parser.add_argument("--good", required=True, metavar="SPEC", help="such as 'pip:apache-tvm==0.25.0'; as --against")
    parser.add_argument("--bad", required=True, metavar="SPEC", help="the newer release, written alike")
    parser.add_argument(
        "--between", action="append", default=[], metavar="SPEC",
        help="a release between them (repeatable, in order); default: those that the index of --good's package has",
    )  # fmt: skip
    parser.add_argument(
        "--first-only", action="store_true", help="ask no release after the first bad one: fewer steps, less certain"
    )
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="continue the trace in this folder")
    for option in _OURS:
        parser.add_argument(option.flag, dest=option.name, help=f"as pytest's {option.flag}", **option.keywords)
    parser.set_defaults(run=_bisect)


def _bisect(options: argparse.Namespace) -> int:
    plan = _plan(options)
    given = [("--good", options.good), ("--bad", options.bad), *(("--between", text) for text in options.between)]
    for flag, text in given:
        library(flag, text)
    good, bad, *between = (text.strip() for _, text in given)
    releases = releases_from(good, bad, between)
    folder: Path = options.resume or new_journal(ROOT, "bisect").with_suffix("")
    bisecting = Bisecting(plan, releases, folder, step_on_stderr, StepsOnStderr(), follow=not options.first_only)
    recorded = record.load(folder) if options.resume else Recorded()
    if recorded.asked:
        recorded.require_asked(folder, bisecting.asked)
    begin = report.beginning(releases, bisecting.trace, plan.settings.time_budget)
    step_on_stderr("\n".join([*begin, f"journals: {folder}"]))
    if without_a_list(releases):
        step_on_stderr("no index lists what lies between these two; name releases with --between, in order")
    try:
        bisecting.run(recorded)
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; continue with the same command and --resume {folder}") from None
    print("\n".join(report.lines(bisecting.trace, releases, bisecting.again, bisecting.for_the_vendor)))
    return exit_code(bisecting.trace)


def exit_code(trace: Trace) -> int:
    """Return 1 where something is worse in the bad release, 0 where nothing is, 6 where that can't be said.

    Nor can it where something is proved slower, and the time ended before that was shown again.
    """
    if trace.traced:
        return 1
    open_ = [trace.at_the_ends(case) for case in trace.undecided]
    return CANNOT_JUDGE if len(open_) == len(trace.cases) or report.unconfirmed(open_) else 0


def _plan(options: argparse.Namespace) -> RunPlan:
    """Return what is measured in each step. Raises NeverSlowerError for a user's mistake."""
    values = {option.key: option.default for option in OPTIONS}
    values |= {option.key: getattr(options, option.name) for option in _OURS}
    names = {text.partition(":")[0] for text in values["backend"]}
    if len(names) != 1:
        raise NeverSlowerError("--backend: name the one whose releases are bisected, such as --backend tvm")
    if any(text.startswith("pip:nvidia-") for text in (options.good, options.bad)):
        require_installed(*names)  # Such a library is laid over this Python's own packages.
    return option_plan.plan(values | {"against": LOCAL})


class Bisecting:
    """One command from the list of releases to the trace; each step is a run with `--against`.

    All steps share the chance of a false red that one run has.
    """

    def __init__(
        self,
        plan: RunPlan,
        releases: Sequence[str],
        folder: Path,
        tell: Callable[[str], None],
        progress: Progress,
        follow: bool = True,
        start: Any = None,
    ) -> None:
        self.cases = {comparison.id: comparison for comparison in plan.comparisons}
        self.trace = Trace(len(releases), list(self.cases), follow)
        self._releases, self._folder, self._tell, self._progress = releases, folder, tell, progress
        self._plan = replace(plan, family_error=plan.family_error / self.trace.most_steps())
        self._start = {"start": start} if start else {}
        self._done = 0
        self._journals: dict[tuple[int, int, str], Path] = {}

    @property
    def asked(self) -> dict[str, Any]:
        """Return what a trace that goes on must have been asked: releases, cases, and how they are measured."""
        spec = next(iter(self._plan.backends.values()))
        settings = sorted(f"{name}={value}" for name, value in vars(self._plan.settings).items())
        asked: dict[str, Any] = {"backend": spec.backend_spec, "threads": spec.threads, "settings": settings}
        return asked | {"releases": list(self._releases), "cases": list(self.cases)}

    def run(self, recorded: Recorded) -> None:
        """Take every step that is left to take, and write each down as it ends."""
        with closing(Journal(self._folder / record.NAME)) as journal:
            if not recorded.asked:
                journal.write("trace", self.asked)
            for ended, showed in recorded.steps:
                self._learn(ended, showed)
            while step := self.trace.next():
                begin = time.monotonic()
                self._tell(report.step_line(self._done + 1, step, self._releases))
                seen = self._measure(step)
                journal.write("step", record.fields_of(step, seen))
                self._learn(step, seen)
                self._tell(report.seen_line(step, list(seen.values())))
                self._tell(report.left_line(self.trace.steps_left(), time.monotonic() - begin))

    def _learn(self, step: Step, seen: Mapping[str, Seen]) -> None:
        self.trace.learn(step, seen)
        self._done += 1
        journal = self._folder / record.step_name(self._done, step)
        self._journals |= {(step.old, step.new, case): journal for case in step.cases}

    def _measure(self, step: Step) -> dict[str, Seen]:
        """Measure one pair of releases. Raises NeverSlowerError where the first one or the last one can't be had."""
        (spec,) = self._plan.backends.values()
        numbers = step.old, step.new
        try:
            old, new = (provided(_worker_of(spec, self._releases[number]), self._tell) for number in numbers)
        except NeverSlowerError as error:
            if numbers == (0, self.trace.last):
                raise
            return {case: Seen(State.OPEN, "no such release here", str(error), final=True) for case in step.cases}
        run = self._run_of(step, old, new)
        comparisons = [self.cases[case] for case in step.cases]
        run.read_journal()
        run.run(Questions(recorded=comparisons), self._progress)
        why = "; ".join(run.findings.unavailable.values())
        if why and numbers == (0, self.trace.last):
            pair = f"{self._releases[step.new]} against {self._releases[step.old]}"
            raise NeverSlowerError(f"{pair}: {why}; then continue with the same command and --resume {self._folder}")
        self._require_more_or_less(run)
        return {comparison.id: seen_of(run, comparison) for comparison in comparisons}

    @staticmethod
    def _require_more_or_less(run: Run) -> None:
        """Refuse dispatches, which differ and are never worse. Raises NeverSlowerError."""
        if any(result.evidence is Evidence.DISPATCH for result in run.findings.results.values()):
            (name,) = run.plan.backends
            remedy = "compare two releases with pytest --against, and `upgrade` lists what changed"
            raise NeverSlowerError(f"{name} gives dispatches here, of which none is worse than another; {remedy}")

    def _run_of(self, step: Step, old: WorkerSpec, new: WorkerSpec) -> Run:
        """Return the run of a step, which continues where the same step was interrupted."""
        # Why a pruned layer is slower than the unpruned one is no question here, and it takes as long as measuring.
        settings = replace(self._plan.settings, explain_budget=0.0)
        if step.effort:
            budget = settings.time_budget and 2 * settings.time_budget
            settings = replace(settings, preset=THOROUGH.name, passes=2 * settings.passes, time_budget=budget)
        plan = replace(self._plan, backends={new.backend: new}, against={old.backend: old}, settings=settings)
        path = self._folder / record.step_name(self._done + 1, step)
        resumes = path.exists() and bool(resume.read(path).fingerprints)
        return Run(plan, self._folder / "baselines", path, resumes=resumes, **self._start)

    def again(self, culprit: Culprit) -> str:
        """Return the command that shows a culprit again, and nothing else."""
        comparison = self.cases[culprit.case]
        good, bad = self._releases[culprit.last_good], self._releases[culprit.first_bad]
        repeated = [option for option in self._plan.repeated if not option.startswith("--against")]
        chosen = _options_of(comparison, *self._plan.backends.values())
        return shlex.join([*_COMMAND, "--good", good, "--bad", bad, *chosen, *repeated])

    def for_the_vendor(self, culprit: Culprit) -> str:
        """Return the command that writes a culprit as a case for its vendor."""
        journal = self._journals[culprit.last_good, culprit.first_bad, culprit.case]
        return shlex.join(["python", "-m", "neverslower", "vendor-report", culprit.case, "--journal", str(journal)])


def _worker_of(spec: WorkerSpec, release: str) -> WorkerSpec:
    """Return the spec of a worker with a release, which keeps the words of the user."""
    return replace(spec, execnet=library("--between", release), named=release)


_COMMAND = ("python", "-m", "neverslower", "bisect")


def _options_of(comparison: Comparison, spec: WorkerSpec) -> list[str]:
    """Return the options that select one comparison."""
    formats = ["--dtype", str(comparison.candidate.dtype), "--layout", str(comparison.candidate.layout)]
    keep = ["--keep", str(comparison.candidate.channels(comparison.side)), "--side", str(comparison.side)]
    return ["--backend", spec.backend_spec, *comparison.layer.options, *formats, *keep]


def seen_of(run: Run, comparison: Comparison) -> Seen:
    """Return what a run with --against showed of one comparison; the table of outcomes says what is a regression."""
    assessed: Assessed = run.assessment.no_regression(comparison)
    verdict, result = assessed.verdict, run.findings.results.get(comparison.identity)
    state, what, reason, final = _state(assessed), "", verdict.reason.text, False
    if state is State.BAD and assessed.finding in _FAILURES:
        what = _first_line(reason)
        if elsewhere := _failed_elsewhere(run, comparison, verdict):
            state, reason, final = State.OPEN, f"{what}; {elsewhere}", verdict.at_fault
    elif state is State.BAD and assessed.entry and result and result.candidate:
        what = str(plan_difference(assessed.entry.plan, result.candidate.plan))
    finding, also, untimed = said(assessed.finding, True), "", ""
    if less_exact := accuracy_of(assessed):
        text = said(Finding.LESS_EXACT, True)
        finding, also = (finding, text) if state is State.BAD else (text, "")
        untimed = reason if state is State.OPEN else ""
        state, what = State.BAD, "; ".join(filter(None, (less_exact, what)))
    return Seen(state, finding, reason, verdict.ratio, what, final=final, also=also, untimed=untimed)


_FAILURES = (Finding.CRASHED, Finding.INVALID, Finding.DROPPED)


def _failed_elsewhere(run: Run, comparison: Comparison, verdict: Verdict) -> str:
    """Return why a failure is none that the newer release brought, an empty string where it is."""
    if not verdict.at_fault:
        return "what can't be judged is no regression"
    other = run.before.results.get(comparison.identity)
    if other is None:
        return "the older release was not measured"
    failed = other.verdict.at_fault and other.verdict.code is not Code.UNSUPPORTED
    return f"the older release fails too ({_first_line(other.verdict.reason.text)})" if failed else ""


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _state(assessed: Assessed) -> State:
    if outcome_of(assessed.finding, strict=False) is Outcome.FAILED:
        return State.BAD
    open_ = (Finding.CHANGE_UNCONFIRMED, Finding.CHANGE_UNDECIDED, Finding.RECORDED)
    undecided = assessed.finding in open_ or unmeasured(assessed.verdict)
    return State.OPEN if undecided else State.GOOD
