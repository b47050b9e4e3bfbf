"""The pytest plugin: options, collection, the campaign before the items, outcomes, summary; each hook delegates."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from _pytest.junitxml import xml_key

import backends
from backends.base import BackendOptions
from neverslower import options, stock
from neverslower.baseline import timed
from neverslower.baseline.entry import Entry
from neverslower.calibration.stored import Standing
from neverslower.cli_shared import step_on_stderr
from neverslower.errors import JournalError, NeverSlowerError, Unavailable
from neverslower.evidence.observation import Plan
from neverslower.files.journal import new_journal
from neverslower.files.writing import append
from neverslower.judge.verdict import Code, Verdict
from neverslower.option_table import GROUPS, OPTIONS, meant
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.run_verdict import BISECT_SKIPS, BROKEN, ENDINGS, RunCode, RunVerdict
from neverslower.outcome.table import Finding, Outcome, outcome_of, said
from neverslower.outcome.tally import Questions
from neverslower.outcome.tuned_log import Case
from neverslower.outcome.upgrade import changes
from neverslower.page.of_run import account_of_run
from neverslower.page.wanted import Wanted
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.whole import WholeComparison
from neverslower.report import drawn, markdown, run_verdict, summary, whole, words
from neverslower.report.overview import Overview
from neverslower.report.progress_line import ProgressLine
from neverslower.report.properties import properties
from neverslower.report.reproduction import command_again, headline, reproduction
from neverslower.report.summary import Emphasis, Line
from neverslower.rules import rule_file
from neverslower.rules.rule import Rule, Rules
from neverslower.run import (
    NOT_ACCEPTED,
    Run,
    overview_of,
    refused_at_once,
    repeated_options,
    require_acceptable,
    standings_of,
    why_no_study,
    why_nothing,
)

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub's runners name the file that becomes a step's page."""
WHOLE_FILE = "test_whole_network.py"
LATENCY_TEST = "test_latency"
NEVER_SLOWER_TEST = "test_never_slower"
NUMERICS_TEST = "test_numerics"
ADVISED_TEST = "test_advised"
HUNT_TEST = "test_drawn_layers_are_never_slower"
OUTPUT_HUNT_TEST = "test_drawn_outputs_are_right"
Parameter = Comparison | Case | WholeComparison
_STATE = pytest.StashKey[Run]()
_WANTED = pytest.StashKey[Wanted]()
_SAID = "never-slower/not-calibrated"
"""Where pytest's cache keeps of which devices it was said that they are not calibrated: once is enough."""
_MARKUP: dict[Emphasis, dict[str, bool]] = {
    Emphasis.NONE: {},
    Emphasis.BOLD: {"bold": True},
    Emphasis.RED: {"red": True},
    Emphasis.YELLOW: {"yellow": True, "bold": True},
    Emphasis.GREEN: {"green": True, "bold": True},
}
"""How pytest's terminal makes a line stand out."""


class Suite:
    """The run as test items see it: each `expect_…` looks a verdict up and raises pytest's outcome for it."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def expect_never_slower(self, comparison: Comparison, request: pytest.FixtureRequest) -> None:
        """Expect that the pruned layer takes no longer than the unpruned one, or that the hazard is known."""
        self._conclude(self.run.assessment.never_slower(comparison), request)

    def expect_no_regression(self, comparison: Comparison, request: pytest.FixtureRequest) -> None:
        """Expect that this channel count is no slower than in the baseline that the user asked to compare with."""
        self._conclude(self.run.assessment.no_regression(comparison), request)

    def expect_equal_outputs(self, comparison: Comparison, request: pytest.FixtureRequest) -> None:
        """Expect that the pruned layer's output equals the kept channels of the unpruned layer's."""
        self._conclude(self.run.assessment.equal_outputs(comparison), request)

    def expect_tuned_log(self, case: Case, request: pytest.FixtureRequest) -> None:
        """Expect that a pruned shape, treated in one way, is no slower than the tuned unpruned layer."""
        self._conclude(self.run.assessment.tuned_log(case), request)

    def expect_advised(self, comparison: Comparison, request: pytest.FixtureRequest) -> None:
        """Expect that an advised channel count is faster than the next larger one, and not merely no slower."""
        self._conclude(self.run.assessment.advised(comparison, self.run.advised[comparison]), request)

    def expect_no_drawn_hazard(self, backend: str, request: pytest.FixtureRequest) -> None:
        """Expect that no layer that Hypothesis draws gets slower by pruning; what is found is shown smallest."""
        self._conclude_hunt(backend, False, request)

    def expect_right_drawn_outputs(self, backend: str, request: pytest.FixtureRequest) -> None:
        """Expect that the output of every layer that Hypothesis draws is right."""
        self._conclude_hunt(backend, True, request)

    def expect_whole_never_slower(self, comparison: WholeComparison, request: pytest.FixtureRequest) -> None:
        """Expect that the pruned network takes no longer than its original, from end to end."""
        node, assessed = cast(pytest.Item, request.node), self.run.whole(comparison)
        _add_properties(node, whole.properties(assessed, self.run.findings))
        spec, test = self.run.plan.backends[comparison.backend], node.nodeid.partition("[")[0]
        again = whole.command_again(comparison, test, spec, repeated_options(self.run))
        failure = partial(whole.failure, assessed, self.run.findings, again)
        self._raise([assessed.finding], assessed.verdict, whole.headline(comparison), failure)

    def _conclude_hunt(self, backend: str, numerics: bool, request: pytest.FixtureRequest) -> None:
        progress = _progress(request.config)
        try:
            hunted = self.run.hunt(backend, numerics, progress)
        except Unavailable as error:
            pytest.skip(f"{Finding.UNAVAILABLE}: {error}")
        except NeverSlowerError as error:
            pytest.fail(str(error), pytrace=False)
        finally:
            progress.end()
        lines = [
            line for example in (*hunted.failures, *hunted.found) for line in drawn.counterexample(example, self.again)
        ]
        text = "\n".join(lines)
        if hunted.failures or (hunted.found and self.run.plan.strict):
            pytest.fail(text, pytrace=False)
        if hunted.found:
            pytest.xfail(f"{Finding.HAZARD_FOUND}: {lines[0]}")
        if not hunted.measured:
            pytest.skip("nothing that was drawn could be measured")

    def again(self, comparison: Comparison | WholeComparison) -> str:
        """Return the command that measures a drawn layer again, all three questions, or a whole network."""
        if isinstance(comparison, WholeComparison):
            spec = self.run.plan.backends[comparison.backend]
            return whole.command_again(comparison, f"tests/{WHOLE_FILE}", spec, self.run.plan.repeated)
        return self._again(comparison, "tests", self.run.plan.repeated)

    def _again(self, comparison: Comparison, test: str, repeated: Sequence[str]) -> str:
        return command_again(comparison, test, self.run.plan.backends[comparison.backend], repeated)

    def record(self, comparison: Comparison, benchmark: Any) -> None:
        """Give the device's samples of one channel count to pytest-benchmark, as its rounds."""
        result = self.run.findings.results.get(comparison.identity)
        if result is None or not result.passes or result.verdict.code in (Code.INVALID, Code.CRASHED):
            return
        rounds = iter(timed.samples(result))
        explanation = self.run.findings.explanations.get(comparison.identity)
        benchmark.group = comparison.layer.name
        benchmark.extra_info.update(timed.extra_info(result, explanation))
        count = sum(measured.candidate.size for measured in result.passes)
        benchmark.pedantic(lambda: stock.CLOCK.advance(next(rounds)), rounds=count, iterations=1)

    def _conclude(self, assessed: Assessed, request: pytest.FixtureRequest) -> None:
        node = cast(pytest.Item, request.node)
        self.run.concluded(node.nodeid, assessed)
        _add_properties(node, properties(assessed, self.run.findings))
        test = node.nodeid.partition("[")[0]

        beside = bool(self.run.plan.against)

        def failure() -> str:
            again = self._again(assessed.comparison, test, repeated_options(self.run))
            return reproduction(assessed, self.run.findings, self._reproduce(assessed), again, beside)

        what = headline(assessed.comparison)
        self._raise([assessed.finding, *assessed.also], assessed.verdict, what, failure, assessed.rule)

    def _raise(
        self,
        findings: Sequence[Finding],
        verdict: Verdict,
        what: str,
        failure: Callable[[], str],
        rule: Rule | None = None,
    ) -> None:
        """Raise pytest's outcome for the first of the findings, or a failure if any of them fails."""
        outcomes = [outcome_of(finding, self.run.plan.strict) for finding in findings]
        first = said(findings[0], bool(self.run.plan.against))
        if Outcome.FAILED in outcomes:
            pytest.fail(failure(), pytrace=False)
        if outcomes[0] is Outcome.XFAILED:
            pytest.xfail(f"{first}: {what}: {verdict.ratio}{f'; {rule}' if rule else ''}")
        if outcomes[0] is Outcome.SKIPPED:
            pytest.skip(f"{first}: {verdict.reason.text}")

    def _reproduce(self, assessed: Assessed) -> Callable[[ConvProblem, Plan], str]:
        name = assessed.comparison.backend
        spec = self.run.plan.backends[name]
        options = BackendOptions(spec.argument, spec.threads)
        return lambda problem, plan: backends.load(name).reproduce(problem, plan, options)


def _add_properties(node: pytest.Item, said: Sequence[tuple[str, str]]) -> None:
    """Add what a JUnit file says of an item, once."""
    node.user_properties[:] = [*(pair for pair in node.user_properties if pair not in said), *said]


def _questions(items: Iterable[pytest.Item], run: Run) -> Questions:
    """Return what some items of a run ask."""
    comparisons: dict[str, list[Comparison]] = {}
    cases: list[Case] = []
    wholes: list[WholeComparison] = []
    hunts: Counter[str] = Counter()
    for item in items:
        name = _function(item)
        hunts[name] += name in (HUNT_TEST, OUTPUT_HUNT_TEST)
        for value in _parameters(item):
            if isinstance(value, Case):
                cases.append(value)
            elif isinstance(value, WholeComparison):
                wholes.append(value)
            elif isinstance(value, Comparison):
                comparisons.setdefault(name, []).append(value)
    recorded, checked = comparisons.pop(LATENCY_TEST, []), comparisons.pop(NUMERICS_TEST, [])
    advised = {comparison: run.advised[comparison] for comparison in comparisons.pop(ADVISED_TEST, [])}
    slower = [comparison for others in comparisons.values() for comparison in others]
    return Questions(slower, recorded, checked, wholes, cases, advised, hunts[HUNT_TEST], hunts[OUTPUT_HUNT_TEST])


def _parameters(item: pytest.Item) -> list[object]:
    callspec = getattr(item, "callspec", None)
    return list(callspec.params.values()) if callspec else []


def _comparison_of(item: pytest.Item) -> Comparison | None:
    return next((value for value in _parameters(item) if isinstance(value, Comparison)), None)


def _function(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", item.name))


class VanishedItem(pytest.Item):
    """An item for something that the baseline holds and the suite does not measure any more; it fails."""

    entry: Entry

    def runtest(self) -> None:
        """Fail with the entry's name."""
        run = self.config.stash[_STATE]
        assessed = run.assessment.vanished(self.entry, run.comparisons[0])
        run.concluded(self.nodeid, assessed)
        pytest.fail(f"{assessed.verdict.reason.text}; if that is intended, accept a new baseline", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the item stands in reports."""
        return self.path, None, self.name


class RuleItem(pytest.Item):
    """An item for a rule about known hazards: what became of it in this run."""

    rule: Rule

    def runtest(self) -> None:
        """Look up what became of the rule, and raise pytest's outcome for it."""
        run = self.config.stash[_STATE]
        assessed = run.rule(self.rule)
        outcome, said = outcome_of(assessed.finding, run.plan.strict), f"{assessed.finding}: {assessed.why}"
        if outcome is Outcome.FAILED:
            pytest.fail(f"{said}\n  {self.rule.place} {self.rule}\n  when {self.rule.when}", pytrace=False)
        if outcome is Outcome.SKIPPED:
            pytest.skip(said)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the item stands in reports."""
        return self.path, None, self.name


# Hooks


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the suite's options, and let pytest's own error of an unknown one say which may be meant."""
    config = cast(pytest.Config, pluginmanager.get_plugin("pytestconfig"))
    if close := meant(map(str, config.invocation_params.args)):
        parser.extra_info["did you mean"] = close
    for listed in GROUPS:
        group = parser.getgroup(listed.name, listed.title)
        for option in listed.options:
            group.addoption(option.flag, dest=option.name, help=option.help, **option.keywords)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; where a baseline is asked for without a name, choose it before pytest-benchmark looks."""
    values = {option.key: config.getoption(option.name) for option in OPTIONS}
    with _users_mistakes(config):
        stock.refuse_what_spoils_timing(config)
        plan = options.plan(values, comparing=bool(config.getoption("benchmark_compare")))
        config.stash[_WANTED] = wanted = Wanted.of(values["report"], values["verdicts"])
    folder = Path(values["baselines"]) if values["baselines"] else config.rootpath / "baselines"
    journal = values["resume"] or values["journal"] or new_journal(config.rootpath, "journal")
    compare = config.getoption("benchmark_compare") or False
    run = Run(plan, folder, Path(journal), compare=compare, resumes=bool(values["resume"]))
    config.stash[_STATE] = run
    with _users_mistakes(config):
        run.rules = _rules(values["hazards"], folder)
        if not _only_looks(config):
            wanted.probe()
            run.read_journal()
            run.provide(step_on_stderr)
            if values["accept-baseline"] is not None:
                run.probe_root()
        stock.prepare(config.option, run, _only_looks(config))


def _rules(named: str | None, baselines: Path) -> Rules:
    """Return the rules about known hazards, none where no file is named and there is none. Raises RuleError."""
    path = Path(named) if named else baselines / rule_file.NAME
    known = rule_file.load(path, backends.load) if named or path.exists() else ()
    return Rules(known, datetime.date.today())


def _only_looks(config: pytest.Config) -> bool:
    """Return whether pytest only shows what it would do: then nothing is measured, and there is nothing to judge."""
    return any(config.getoption(name, False) for name in ("collectonly", "setuponly", "setupplan"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Hide pytest-benchmark's table of every channel count, which would bury the summary, unless it is asked for."""
    config = session.config
    stock.hide_table(cast(Any, config)._benchmarksession, config.invocation_params.args)


@contextlib.contextmanager
def _users_mistakes(config: pytest.Config) -> Iterator[None]:
    """Report what a user can fix in one line, without a traceback; for bisecting, in a code that is not `bad`."""
    try:
        yield
    except NeverSlowerError as error:
        if config.getoption("neverslower_exit_codes") == "bisect":
            named = config.getoption("neverslower_journal") or config.getoption("neverslower_resume")
            no_room = isinstance(error, JournalError) and not named  # The checkout is read-only: no mistake of words.
            broken = BROKEN + int(pytest.ExitCode.USAGE_ERROR)
            pytest.exit(f"ERROR: {error}", returncode=BISECT_SKIPS if no_room else broken)
        raise pytest.UsageError(str(error)) from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the test of whole networks out where there is no pair of them, unless it is named by its path."""
    run = config.stash.get(_STATE, None)
    return True if collection_path.name == WHOLE_FILE and run and not run.wholes else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each item the comparison that it is about."""
    run = metafunc.config.stash[_STATE]
    if "drawn_on" in metafunc.fixturenames:
        parameters = [pytest.param(name, id=name) for name in run.plan.backends]
        metafunc.parametrize("drawn_on", parameters or [_nothing(_why_nothing(run))])
    if "tuned_log" in metafunc.fixturenames:
        if not (run.hindrance or run.tuned_log_cases):
            run.hindered(why_no_study(run))
        _parametrize(metafunc, "tuned_log", run.tuned_log_cases, why_no_study(run))
    if "whole_network" in metafunc.fixturenames:
        why_none = run.plan.why_no_whole()
        if not run.hindrance and why_none:
            run.hindered(why_none)
        _parametrize(metafunc, "whole_network", run.wholes, why_none)
    if "advised" in metafunc.fixturenames:
        _parametrize(metafunc, "advised", list(run.advised), run.plan.why_no_advice())
    for name in {"pruned", "channel_count"} & set(metafunc.fixturenames):
        comparisons = run.comparisons
        if name == "pruned":
            comparisons = [comparison for comparison in comparisons if not comparison.against_itself]
        if not comparisons:
            (run.nothing_pruned if name == "pruned" else run.hindered)(_why_nothing(run))
        _parametrize(metafunc, name, comparisons, run.hindrance or "")


def _parametrize(
    metafunc: pytest.Metafunc, name: str, values: Sequence[Comparison | Case | WholeComparison], why_none: str
) -> None:
    parameters = [pytest.param(value, id=value.id) for value in values]
    metafunc.parametrize(name, parameters or [_nothing(why_none)])


def _nothing(why: str) -> Any:
    """Return the one parameter of a test that has nothing to do; it is skipped."""
    return pytest.param(None, id="nothing", marks=pytest.mark.skip(reason=why))


def _why_nothing(run: Run) -> str:
    missing = {name: ", ".join(backends.missing_modules(name)) for name in backends.TABLE}
    needed = "; ".join(f"{name} needs {what}" for name, what in missing.items() if what)
    return why_nothing(run) if run.plan.backends else f"no backend is installed; {needed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out advice that nobody gave; add an item for each stored entry that nothing measures, where comparing."""
    run = config.stash[_STATE]
    unasked = [item for item in items if _function(item) == ADVISED_TEST and not run.plan.advice]
    if len(unasked) < len(items):  # Named by itself it says what it needs.
        items[:] = [item for item in items if item not in unasked]
    recording = [item for item in items if _records(item)]
    questioning = next((item for item in items if _function(item) == NEVER_SLOWER_TEST), None)
    if questioning:
        items.extend(_rule_items(run, cast(pytest.Module, questioning.parent)))
    if recording and run.compare:
        items.extend(_vanished(run, cast(pytest.Module, recording[0].parent)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which of the chosen tests record which comparison, and whether advice that they ask for can be judged."""
    run = session.config.stash[_STATE]
    if any(_function(item) == ADVISED_TEST for item in session.items):
        run.require_advice()
    for item in session.items:
        if _records(item):
            run.records(cast(Comparison, _comparison_of(item)), item.nodeid)


def _records(item: pytest.Item) -> bool:
    return _function(item) == LATENCY_TEST and _comparison_of(item) is not None


def _vanished(run: Run, parent: pytest.Module) -> Iterator[pytest.Item]:
    for entry in run.vanished():
        item = VanishedItem.from_parent(parent, name=f"vanished[{entry.label}]")
        item.entry = entry
        yield item


def _rule_items(run: Run, parent: pytest.Module) -> Iterator[pytest.Item]:
    for rule in run.judged_rules():
        item = RuleItem.from_parent(parent, name=f"rule[{rule.place}]")
        item.rule = rule
        yield item


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what was found in the user's models, what is left out of them, and which counts do not fit where."""
    run = config.stash.get(_STATE, None)
    return run.notes() if run else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run the campaign before the first item."""
    config = session.config
    if not _only_looks(config) and not session.testsfailed:
        run, progress = config.stash[_STATE], _progress(config)
        try:
            with _users_mistakes(config):
                if config.getoption("neverslower_accept_baseline") is not None:
                    require_acceptable(run)
                run.run(_questions(session.items, run), progress, progress.foresee)
        finally:
            progress.end()
    return (yield)


def _progress(config: pytest.Config) -> ProgressLine:
    return ProgressLine(config.pluginmanager.get_plugin("terminalreporter"))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Store an accepted baseline, and make the run's verdict: its exit code, its place in JUnit and in the journal."""
    config = session.config
    run = config.stash.get(_STATE, None)
    if run and not _only_looks(config):
        ending, why = _ending(int(exitstatus)), ""
        reason = config.getoption("neverslower_accept_baseline")
        if reason is not None and ending is None and not run.accept(reason):
            ending, why = RunCode.NOT_ACCEPTED, run.acceptance[-1].removeprefix(NOT_ACCEPTED)
        run.beyond = stock.beyond(cast(Any, config)._benchmarksession)
        verdict = run.conclude(ending, why, exitstatus == pytest.ExitCode.TESTS_FAILED)
        if verdict:
            if config.getoption("neverslower_exit_codes") == "bisect":
                session.exitstatus = verdict.bisect_code
            elif _ending(int(exitstatus)) is None:
                session.exitstatus = verdict.exit_code
            _write_files(config, run, verdict)
    return (yield)


def _ending(exitstatus: int) -> RunCode | None:
    """Return pytest's own ending, None where the run came to judging; for bisecting it may be mapped already."""
    if exitstatus == BISECT_SKIPS:
        return RunCode.CANNOT_JUDGE
    code = exitstatus - BROKEN if exitstatus > BROKEN else exitstatus
    if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return None
    named = {number: ending for ending, number in ENDINGS.items() if ending is not RunCode.NOT_ACCEPTED}
    return named.get(code, RunCode.INTERRUPTED)


def _write_files(config: pytest.Config, run: Run, verdict: RunVerdict) -> None:
    """Write the verdict into the JUnit file, and the whole summary on a workflow's page, where there are such."""
    if junit := config.stash.get(xml_key, None):
        for name, text in run_verdict.properties(verdict):
            junit.add_global_property(name, text)
    if path := os.environ.get(STEP_SUMMARY):
        append(Path(path), markdown.summary(_overview(config, run, verdict, standings_of(run))))
    if wanted := config.stash[_WANTED]:
        overview, suite = _overview(config, run, verdict, standings_of(run)), Suite(run)
        changed = list(changes(run.assessment, run.findings)) if run.comparing else []
        run.kept += wanted.write(account_of_run(overview, run.journal_path, changed, suite.again))


def _overview(config: pytest.Config, run: Run, verdict: RunVerdict, standings: Mapping[str, Standing]) -> Overview:
    return overview_of(run, verdict, Suite(run).again, standings, config.get_verbosity() > 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Generator[None, object, object]:
    """Print the summary last: after the failures, pytest-benchmark's table and pytest's own list."""
    try:
        return (yield)
    finally:
        run = config.stash.get(_STATE, None)
        if run and run.verdict and not refused_at_once(run):
            overview = _overview(config, run, run.verdict, _worth_a_word(config, standings_of(run)))
            terminalreporter.write_sep("=", summary.TITLE, bold=True)
            for line in summary.lines(overview):
                _print(terminalreporter, line)


def _print(terminalreporter: Any, line: Line) -> None:
    """Print a line of the summary in the letters that the terminal has, broken at words where it is too narrow."""
    text = words.in_letters_of(line.text, getattr(terminalreporter._tw._file, "encoding", None))
    narrow = terminalreporter.isatty and not line.whole
    for part in words.broken(text, terminalreporter._tw.fullwidth) if narrow else [text]:
        terminalreporter.write_line(part, **_MARKUP[line.emphasis])


def _worth_a_word(config: pytest.Config, standings: Mapping[str, Standing]) -> dict[str, Standing]:
    """Leave out the devices of which an earlier run said that they are not calibrated; remember the others."""
    cache = getattr(config, "cache", None)
    if cache is None or config.get_verbosity() > 0:
        return dict(standings)
    run, said = config.stash[_STATE], list(cache.get(_SAID, []))
    missing = {
        name: f"{run.fingerprints[name].folder} {standing.why}"
        for name, standing in standings.items()
        if standing.calibration is None
    }
    cache.set(_SAID, sorted({*said, *missing.values()}))
    return {name: standing for name, standing in standings.items() if missing.get(name) not in said}


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    """Return what pytest-benchmark takes for the machine: the devices' fingerprints, once they are known."""
    run = config.stash.get(_STATE, None)
    return timed.machine_info(run.fingerprints.values()) if run and run.fingerprints else None


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what makes a saved run a baseline that can be compared with."""
    run = config.stash.get(_STATE, None)
    if run and run.findings.fingerprints:
        settings = run.plan.settings_fields(run.thresholds)
        output_json["never_slower"] = timed.header(run.findings.fingerprints, settings)
        for benchmark in output_json["benchmarks"]:
            benchmark["params"] = {"problem": benchmark["extra_info"].get("problem")}


# Fixtures


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Suite:
    """Return the run's suite, whose `expect_…` methods the tests call."""
    return Suite(pytestconfig.stash[_STATE])
