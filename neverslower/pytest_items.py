"""The items of the suite: what each of them expects of the run, and pytest's outcome for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import backends
from backends.base import BackendOptions
from neverslower import stock
from neverslower.baseline import timed
from neverslower.baseline.entry import Entry
from neverslower.errors import NeverSlowerError, Unavailable
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import Code, Verdict
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import Finding, Outcome, outcome_of, said
from neverslower.outcome.tally import Questions
from neverslower.outcome.tuned_log import Case
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.whole import WholeComparison
from neverslower.report import drawn, whole
from neverslower.report.progress_line import ProgressLine
from neverslower.report.properties import properties
from neverslower.report.reproduction import command_again, headline, reproduction
from neverslower.rules.rule import Rule
from neverslower.run import Run
from neverslower.run_hunt import hunt_drawn
from neverslower.run_summary import repeated_options

WHOLE_FILE = "test_whole_network.py"
LATENCY_TEST = "test_latency"
NEVER_SLOWER_TEST = "test_never_slower"
NUMERICS_TEST = "test_numerics"
ADVISED_TEST = "test_advised"
HUNT_TEST = "test_drawn_layers_are_never_slower"
OUTPUT_HUNT_TEST = "test_drawn_outputs_are_right"
STATE = pytest.StashKey[Run]()
"""Where pytest's configuration holds the run."""


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
        """Expect that an advised layer is faster than what it was advised against, and not merely no slower."""
        self._conclude(self.run.assessment.advised(comparison, self.run.plan.advised[comparison]), request)

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
        progress = progress_of(request.config)
        try:
            hunted = hunt_drawn(self.run, backend, numerics, progress)
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


def questions_of(items: Iterable[pytest.Item], run: Run) -> Questions:
    """Return what some items of a run ask."""
    comparisons: dict[str, list[Comparison]] = {}
    cases: list[Case] = []
    wholes: list[WholeComparison] = []
    hunts: Counter[str] = Counter()
    for item in items:
        name = function_of(item)
        hunts[name] += name in (HUNT_TEST, OUTPUT_HUNT_TEST)
        for value in _parameters(item):
            if isinstance(value, Case):
                cases.append(value)
            elif isinstance(value, WholeComparison):
                wholes.append(value)
            elif isinstance(value, Comparison):
                comparisons.setdefault(name, []).append(value)
    recorded, checked = comparisons.pop(LATENCY_TEST, []), comparisons.pop(NUMERICS_TEST, [])
    advised = {comparison: run.plan.advised[comparison] for comparison in comparisons.pop(ADVISED_TEST, [])}
    slower = [comparison for others in comparisons.values() for comparison in others]
    return Questions(slower, recorded, checked, wholes, cases, advised, hunts[HUNT_TEST], hunts[OUTPUT_HUNT_TEST])


def _parameters(item: pytest.Item) -> list[object]:
    callspec = getattr(item, "callspec", None)
    return list(callspec.params.values()) if callspec else []


def comparison_of(item: pytest.Item) -> Comparison | None:
    """Return the comparison that an item asks about, None of one that asks about something else."""
    return next((value for value in _parameters(item) if isinstance(value, Comparison)), None)


def function_of(item: pytest.Item) -> str:
    """Return the name of an item's test function."""
    return str(getattr(item, "originalname", item.name))


class OurItem(pytest.Item):
    """An item that no test function is behind."""

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the item stands in reports."""
        return self.path, None, self.name


class VanishedItem(OurItem):
    """An item for something that the baseline holds and the suite does not measure any more; it fails."""

    entry: Entry

    def runtest(self) -> None:
        """Fail with the entry's name."""
        run = self.config.stash[STATE]
        assessed = run.assessment.vanished(self.entry, run.plan.comparisons[0])
        run.concluded(self.nodeid, assessed)
        pytest.fail(f"{assessed.verdict.reason.text}; if that is intended, accept a new baseline", pytrace=False)


class RuleItem(OurItem):
    """An item for a rule about known hazards: what became of it in this run."""

    rule: Rule

    def runtest(self) -> None:
        """Look up what became of the rule, and raise pytest's outcome for it."""
        run = self.config.stash[STATE]
        assessed = run.rule(self.rule)
        outcome, said = outcome_of(assessed.finding, run.plan.strict), f"{assessed.finding}: {assessed.why}"
        if outcome is Outcome.FAILED:
            pytest.fail(f"{said}\n  {self.rule.place} {self.rule}\n  when {self.rule.when}", pytrace=False)
        if outcome is Outcome.SKIPPED:
            pytest.skip(said)


def progress_of(config: pytest.Config) -> ProgressLine:
    """Return the line of a terminal that shows the progress of long work."""
    return ProgressLine(config.pluginmanager.get_plugin("terminalreporter"))
