"""The pytest plugin: options, collection, the campaign before the items, outcomes, summary; each hook delegates."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from _pytest.junitxml import xml_key

import backends
from neverslower import options, stock
from neverslower.baseline import timed
from neverslower.calibration.stored import Standing
from neverslower.cli_shared import step_on_stderr
from neverslower.errors import JournalError, NeverSlowerError
from neverslower.files.journal import new_journal
from neverslower.files.writing import append
from neverslower.option_table import GROUPS, OPTIONS, meant
from neverslower.outcome.run_verdict import BISECT_SKIPS, BROKEN, ENDINGS, RunCode, RunVerdict
from neverslower.outcome.tuned_log import Case
from neverslower.outcome.upgrade import changes
from neverslower.page.of_run import account_of_run
from neverslower.page.wanted import Wanted
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import WholeComparison
from neverslower.pytest_items import (
    ADVISED_TEST,
    LATENCY_TEST,
    NEVER_SLOWER_TEST,
    STATE,
    WHOLE_FILE,
    RuleItem,
    Suite,
    VanishedItem,
    comparison_of,
    function_of,
    progress_of,
    questions_of,
)
from neverslower.report import markdown, run_verdict, summary, words
from neverslower.report.overview import Overview
from neverslower.report.summary import Emphasis, Line
from neverslower.rules import rule_file
from neverslower.rules.rule import Rules
from neverslower.run import Run
from neverslower.run_acceptance import NOT_ACCEPTED, accept_run, require_acceptable, require_storable
from neverslower.run_summary import (
    notes_of,
    overview_of,
    refused_at_once,
    standings_of,
    why_no_study,
    why_nothing,
)

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub's runners name the file that becomes a step's page."""
Parameter = Comparison | Case | WholeComparison
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
    config.stash[STATE] = run
    with _users_mistakes(config):
        run.rules = _rules(values["hazards"], folder)
        if not _only_looks(config):
            wanted.probe()
            run.read_journal()
            run.provide(step_on_stderr)
            if values["accept-baseline"] is not None:
                require_storable(run)
        stock.prepare(config.option, run, _only_looks(config))


def _rules(named: str | None, baselines: Path) -> Rules:
    """Return the rules about known hazards, none where no file is named and there is none. Raises RuleError."""
    path = Path(named) if named else baselines / rule_file.NAME
    known = rule_file.load(path, backends.load) if named or _exists(path) else ()
    return Rules(known, datetime.date.today())


def _exists(path: Path) -> bool:
    """Return whether there is such a file; a folder that can't be read is reported where baselines are read."""
    try:
        return path.exists()
    except OSError:
        return False


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
    run = config.stash.get(STATE, None)
    return True if collection_path.name == WHOLE_FILE and run and not run.plan.wholes else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each item the comparison that it is about."""
    run = metafunc.config.stash[STATE]
    if "drawn_on" in metafunc.fixturenames:
        parameters = [pytest.param(name, id=name) for name in run.plan.backends]
        metafunc.parametrize("drawn_on", parameters or [_nothing(_why_nothing(run))])
    if "tuned_log" in metafunc.fixturenames:
        if not (run.hindrance or run.plan.tuned_log_cases):
            run.hindered(why_no_study(run))
        _parametrize(metafunc, "tuned_log", run.plan.tuned_log_cases, why_no_study(run))
    if "whole_network" in metafunc.fixturenames:
        why_none = run.plan.why_no_whole()
        if not run.hindrance and why_none:
            run.hindered(why_none)
        _parametrize(metafunc, "whole_network", run.plan.wholes, why_none)
    if "advised" in metafunc.fixturenames:
        _parametrize(metafunc, "advised", list(run.plan.advised), run.plan.why_no_advice())
    for name in {"pruned", "channel_count"} & set(metafunc.fixturenames):
        comparisons = run.plan.comparisons
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
    run = config.stash[STATE]
    unasked = [item for item in items if function_of(item) == ADVISED_TEST and not run.plan.advice]
    if len(unasked) < len(items):  # Named by itself it says what it needs.
        items[:] = [item for item in items if item not in unasked]
    recording = [item for item in items if _records(item)]
    questioning = next((item for item in items if function_of(item) == NEVER_SLOWER_TEST), None)
    if questioning:
        items.extend(_rule_items(run, cast(pytest.Module, questioning.parent)))
    if recording and run.compare:
        items.extend(_vanished(run, cast(pytest.Module, recording[0].parent)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which of the chosen tests record which comparison, and whether advice that they ask for can be judged."""
    run = session.config.stash[STATE]
    if any(function_of(item) == ADVISED_TEST for item in session.items):
        run.require_advice()
    for item in session.items:
        if _records(item):
            run.records(cast(Comparison, comparison_of(item)), item.nodeid)


def _records(item: pytest.Item) -> bool:
    return function_of(item) == LATENCY_TEST and comparison_of(item) is not None


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
    run = config.stash.get(STATE, None)
    return notes_of(run) if run else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run the campaign before the first item."""
    config = session.config
    if not _only_looks(config) and not session.testsfailed:
        run, progress = config.stash[STATE], progress_of(config)
        try:
            with _users_mistakes(config):
                if config.getoption("neverslower_accept_baseline") is not None:
                    require_acceptable(run)
                run.run(questions_of(session.items, run), progress, progress.foresee)
        finally:
            progress.end()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Store an accepted baseline, and make the run's verdict: its exit code, its place in JUnit and in the journal."""
    config = session.config
    run = config.stash.get(STATE, None)
    if run and not _only_looks(config):
        ending, why = _ending(int(exitstatus)), ""
        reason = config.getoption("neverslower_accept_baseline")
        if reason is not None and ending is None and not accept_run(run, reason):
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
        run = config.stash.get(STATE, None)
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
    run, said = config.stash[STATE], list(cache.get(_SAID, []))
    missing = {
        name: f"{run.fingerprints[name].folder} {standing.why}"
        for name, standing in standings.items()
        if standing.calibration is None
    }
    cache.set(_SAID, sorted({*said, *missing.values()}))
    return {name: standing for name, standing in standings.items() if missing.get(name) not in said}


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any] | None:
    """Return what pytest-benchmark takes for the machine: the devices' fingerprints, once they are known."""
    run = config.stash.get(STATE, None)
    return timed.machine_info(run.fingerprints.values()) if run and run.fingerprints else None


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what makes a saved run a baseline that can be compared with."""
    run = config.stash.get(STATE, None)
    if run and run.findings.fingerprints:
        settings = run.plan.settings_fields(run.thresholds)
        output_json["never_slower"] = timed.header(run.findings.fingerprints, settings)
        for benchmark in output_json["benchmarks"]:
            benchmark["params"] = {"problem": benchmark["extra_info"].get("problem")}


# Fixtures


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Suite:
    """Return the run's suite, whose `expect_…` methods the tests call."""
    return Suite(pytestconfig.stash[STATE])
