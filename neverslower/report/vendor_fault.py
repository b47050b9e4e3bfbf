"""A case for a library's maintainers about an output: one that is missing, wrong, or less exact than it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neverslower.judge.accuracy import less_exact
from neverslower.judge.verdict import Code, Verdict
from neverslower.outcome.record import Record
from neverslower.outcome.upgrade import Change
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.report.vendor import (
    NEIGHBOURS,
    Scripts,
    environment,
    names_somebody,
    runnable,
    without_names,
    without_paths,
)

_WORDS = {
    Code.INVALID: ("computes something wrong", "computes a wrong output"),
    Code.CRASHED: ("crashes", "ends its process"),
    Code.UNSUPPORTED: ("is refused", "is refused"),
}


@dataclass(frozen=True)
class FaultCase:
    """One layer of a record whose output is at fault; `before` is the other library's record, where there is one.

    `changes` has what differs at each channel count, by the case's id; it is empty without another library.
    """

    now: Record
    comparison: Comparison
    scripts: Scripts
    before: Record | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of the record."""
        return self.now.verdicts[self.comparison.identity]

    @property
    def records(self) -> list[Record]:
        """Return the records, the older library's first."""
        return [self.before, self.now] if self.before else [self.now]

    @property
    def problem(self) -> ConvProblem:
        """Return the one of both problems that is at fault: the pruned one, unless that alone was found right."""
        reference, candidate = self.comparison.reference, self.comparison.candidate
        known = self.now.examined
        pruned_is_right = (self.comparison.backend, candidate.key) in known and not self._less_exact
        unpruned_is_known = (self.comparison.backend, reference.key) in known
        return reference if pruned_is_right and not unpruned_is_known else candidate

    @property
    def _less_exact(self) -> str:
        change = self.changes.get(self.comparison.id)
        return change.less_exact if change else ""

    @property
    def _failure(self) -> tuple[Code, str] | None:
        """Return how the output failed, and what was said of it: at first, or when it was measured again."""
        if self.verdict.at_fault:
            return self.verdict.code, self.verdict.reason.text
        change = self.changes.get(self.comparison.id)
        return (change.code, change.reason) if change and change.broke else None

    @property
    def words(self) -> tuple[str, str]:
        """Return what the library does, for a title and for a sentence."""
        return _WORDS[self._failure[0]] if self._failure else ("got less exact", "has a less exact output")

    @property
    def failed(self) -> bool:
        """Return whether the output is missing or wrong, and not only less exact."""
        return self._failure is not None

    @property
    def reason(self) -> str:
        """Return what was seen, without names."""
        said = self._failure[1] if self._failure else self._less_exact
        return without_names(said, self.now.fingerprints[self.comparison.backend])

    def error(self, record: Record, problem: ConvProblem) -> str:
        """Return how far an output is from float64, and what is said where there is none."""
        examined = record.examined.get((self.comparison.backend, problem.key))
        return "not checked" if examined is None or examined.error is None else f"{examined.error:.1e}"

    def fine(self) -> list[ConvProblem]:
        """Return the nearest counts of the same layer whose outputs are right and as exact, from few channels on."""
        asked, side = self.comparison, self.comparison.side
        others = {
            other.candidate: abs(other.candidate.channels(side) - asked.candidate.channels(side))
            for other in self.now.comparisons.values()
            if (other.backend, other.reference, other.side) == (asked.backend, asked.reference, side)
            and other.candidate != self.problem
            and self._is_fine(other.candidate)
        }
        nearest = sorted(others, key=lambda problem: others[problem])[:NEIGHBOURS]
        return sorted(nearest, key=lambda problem: problem.channels(side))

    def _is_fine(self, problem: ConvProblem) -> bool:
        seen = [record.examined.get((self.comparison.backend, problem.key)) for record in self.records]
        errors = [one.error for one in seen if one]
        return len(errors) == len(seen) and not less_exact(errors[0], errors[-1], str(problem.dtype))


def report(case: FaultCase) -> str:
    """Return the page, in GitHub's Markdown."""
    text = "\n".join([*_summary(case), *_environments(case), *_chosen(case), *_figures(case)])
    return without_paths(text) + "".join(f"{line}\n" for line in _scripts(case))


def _versions(case: FaultCase) -> Sequence[str]:
    return [record.fingerprints[case.comparison.backend].version for record in case.records]


def _summary(case: FaultCase) -> Iterator[str]:
    problem, versions = case.problem, _versions(case)
    title, does = case.words
    pruned = problem == case.comparison.candidate
    channels = case.comparison.channels if pruned else f"unpruned, {problem.channels(case.comparison.side)} channels"
    yield f"# {case.comparison.backend} {' → '.join(versions)}: a convolution {title} ({channels})"
    yield ""
    yield f"The convolution `{problem.descriptor}` ({problem.dtype}, {problem.layout}) {does} with {versions[-1]}:"
    yield from ("", "```", *case.reason.splitlines(), "```", "")
    if case.before:
        yield f"With {versions[0]} the output was right; its error was {case.error(case.before, problem)}."
    yield "An error is the largest deviation from a reference in float64, as a fraction of the largest value there."
    yield "Inputs and weights are random. Problems are written as oneDNN's benchdnn does."
    yield ""


def _environments(case: FaultCase) -> Iterator[str]:
    first, *_, last = (case.records[0], case.records[-1])
    now, before = (record.fingerprints[case.comparison.backend] for record in (last, first))
    yield from environment(now)
    yield from (f"- differs: {line}" for line in now.changes(before) if not names_somebody(line))
    yield ""


def _chosen(case: FaultCase) -> Iterator[str]:
    yield "## What the library chose"
    yield ""
    for record, version in zip(case.records, _versions(case), strict=True):
        examined = record.examined.get((case.comparison.backend, case.problem.key))
        yield f"- {version}: plan `{examined.plan if examined else 'not recorded'}`"
        yield from (f"  - `{step}`" for step in (examined.plan.steps if examined else ()))
    yield ""


def _figures(case: FaultCase) -> Iterator[str]:
    versions, side = _versions(case), case.comparison.side
    rows = [(case.problem, "**"), *((problem, "") for problem in case.fine())]
    yield "## Errors"
    yield ""
    yield f"| convolution | channels | {' | '.join(versions)} |"
    yield f"|---|---|{'---|' * len(versions)}"
    for problem, mark in rows:
        errors = [case.error(record, problem) for record in case.records]
        if mark and case.failed:
            errors[-1] = case.words[0]
        fine = "" if mark else ", fine"
        cells = [f"`{problem.descriptor}`", f"{mark}{problem.channels(side)}{mark}", *errors]
        yield f"| {' | '.join(cells)}{fine} |"
    yield ""


def _scripts(case: FaultCase) -> Iterator[str]:
    seen = [record.examined.get((case.comparison.backend, case.problem.key)) for record in case.records]
    yield ""
    yield "## Reproduce it"
    yield ""
    yield "Run this with both releases:" if case.before else "Run this:"
    yield from runnable(case.scripts, case.problem, next((one for one in reversed(seen) if one), None), checks=True)
