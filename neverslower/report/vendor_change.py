"""A case for a library's maintainers about a release: one layer that takes longer than with an older release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neverslower.judge.verdict import Code
from neverslower.maps.staircase import WORSE
from neverslower.outcome.record import Record
from neverslower.outcome.upgrade import Change
from neverslower.problem.comparison import Comparison
from neverslower.report.vendor import (
    NEIGHBOURS,
    Scripts,
    certainty,
    environment,
    names_somebody,
    runnable,
    sampled,
    without_paths,
)


@dataclass(frozen=True)
class ChangedCase:
    """One layer of a record with two libraries; `changes` has every channel count of the record, by the case's id."""

    now: Record
    before: Record
    comparison: Comparison
    changes: Mapping[str, Change]
    scripts: Scripts

    @property
    def change(self) -> Change:
        """Return what the newer library did to the layer."""
        return self.changes[self.comparison.id]

    @property
    def counted(self) -> bool:
        """Return whether instructions were counted and nothing was timed."""
        return self.change.code is Code.MORE

    def fine(self) -> list[Change]:
        """Return the nearest channel counts of the same layer that did not get worse, from few channels to many."""
        count = self.change.channels
        fine = [
            other
            for other in self.changes.values()
            if other.layer == self.change.layer and other.ratio and other.code not in (*WORSE, Code.UNDECIDED)
        ]
        nearest = sorted(fine, key=lambda other: abs(other.channels - count))[:NEIGHBOURS]
        return sorted(nearest, key=lambda other: other.channels)


def report(case: ChangedCase) -> str:
    """Return the page, in GitHub's Markdown."""
    text = "\n".join([*_summary(case), *_environments(case), *_chosen(case), *_figures(case)])
    return without_paths(text) + "".join(f"{line}\n" for line in _script(case))


def _summary(case: ChangedCase) -> Iterator[str]:
    problem, measure = case.comparison.candidate, "instructions" if case.counted else "time"
    backend = case.comparison.backend
    new, old = (record.fingerprints[backend].version for record in (case.now, case.before))
    worse, takes = ("needs more instructions", "executes") if case.counted else ("got slower", "takes")
    yield f"# {backend} {old} → {new}: a convolution {worse} ({case.comparison.channels})"
    yield ""
    yield f"The convolution `{problem.descriptor}` ({problem.dtype}, {problem.layout}) {takes} **{case.change.ratio}**"
    yield f"the {measure} with {new} that it {takes} with {old}. {certainty(case.now, case.counted)}"
    if case.change.less_exact:
        yield f"Its {case.change.less_exact}."
    yield "Problems are written as oneDNN's benchdnn does."
    yield ""


def _environments(case: ChangedCase) -> Iterator[str]:
    new, old = (record.fingerprints[case.comparison.backend] for record in (case.now, case.before))
    yield from environment(new)
    yield from (f"- differs: {line}" for line in new.changes(old) if not names_somebody(line))
    yield ""


def _chosen(case: ChangedCase) -> Iterator[str]:
    key = case.comparison.backend, case.comparison.candidate.key
    yield "## What the library chose"
    yield ""
    for record in (case.before, case.now):
        examined = record.examined.get(key)
        version = record.fingerprints[case.comparison.backend].version
        yield f"- {version}: plan `{examined.plan if examined else 'not recorded'}`"
        yield from (f"  - `{step}`" for step in (examined.plan.steps if examined else ()))
    if case.change.what:
        yield ""
        yield f"What changed: {case.change.what}."
    yield ""


def _figures(case: ChangedCase) -> Iterator[str]:
    change = case.change
    yield "## Figures"
    yield ""
    yield f"| channels, of {change.unpruned} | new over old |"
    yield "|---|---|"
    yield f"| **{change.channels}** | **{change.ratio}** |"
    yield from (f"| {other.channels} | {other.ratio}, fine |" for other in case.fine())
    yield ""
    if case.counted:
        yield f"Counted: {change.reason}."
        yield ""
    passes = [record.samples.get(case.comparison.identity, []) for record in (case.before, case.now)]
    sides = [[taken.candidate for taken in of_one if len(taken.seconds)] for of_one in passes]
    if all(sides):
        yield from sampled(list(zip(*sides, strict=False)), ("older release", "newer release"))


def _script(case: ChangedCase) -> Iterator[str]:
    problem = case.comparison.candidate
    yield ""
    yield "## Reproduce it"
    yield ""
    yield "Run this with both releases:"
    yield from runnable(case.scripts, problem, case.now.examined.get((case.comparison.backend, problem.key)))
