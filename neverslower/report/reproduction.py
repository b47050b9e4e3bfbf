"""A failure reported as a reproduction: what was compared, what was measured, and the commands that show it again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from neverslower.campaign.findings import Findings, Result
from neverslower.device.fingerprint import Fingerprint, short_hash
from neverslower.evidence.observation import Plan
from neverslower.judge.cause import Explanation
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.beside import plan_difference
from neverslower.outcome.table import Finding, said
from neverslower.outcome.upgrade import accuracy_of
from neverslower.problem.comparison import Comparison, pruning_distances
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.report import words
from neverslower.worker.process import WorkerSpec

Reproduce = Callable[[ConvProblem, Plan], str]


def reproduction(assessed: Assessed, findings: Findings, reproduce: Reproduce, again: str, beside: bool = False) -> str:
    """Return the message of an item that fails; `again` is the pytest command that measures it again.

    `beside` says that it was compared with another library in this run, and not with a baseline.
    """
    return "\n".join(_lines(assessed, findings, reproduce, again, beside))


def _lines(assessed: Assessed, findings: Findings, reproduce: Reproduce, again: str, beside: bool) -> Iterator[str]:
    comparison, verdict = assessed.comparison, assessed.verdict
    result = findings.results.get(comparison.identity)
    fingerprint = findings.fingerprints.get(comparison.backend)
    yield f"{said(assessed.finding, beside)}: {headline(comparison)}"
    yield f"  {verdict.code}{f' {verdict.ratio}' if verdict.ratio else ''}: {verdict.reason.text}"
    if verdict.noise_floor is not None:
        yield (
            f"  noise floor {words.percent(verdict.noise_floor)}, "
            f"smallest slowdown that this run could prove {words.percent(verdict.mde)}"
        )
    if assessed.entry:
        known, whose = assessed.entry.known, "the other library" if beside else "baseline"
        yield f"  {whose}: {known.code} {known.ratio or ''}, plan {assessed.entry.plan}"
    if assessed.rule and assessed.finding is Finding.RULE_EXCEEDED:
        yield f"  rule      covers {list(assessed.rule.ratios)}: {assessed.rule}"
    if fingerprint:
        yield f"  {software(fingerprint)} on {fingerprint.device}"
    if change := findings.marked.get(comparison.identity):
        yield f"  measured after the device's state changed: {change}"
    if result and result.passes:
        yield from _times(result)
    elif result and result.evidence.exact:
        yield from _seen(result)
    yield from _what_changed(assessed, result)
    if less_exact := accuracy_of(assessed):
        yield f"  accuracy  {less_exact}"
    yield from cause_lines(findings.explanations.get(comparison.identity))
    yield f"  problem   {comparison.reference}"
    if comparison.layer.places:
        yield f"  places    {', '.join(comparison.layer.places)}"
    yield f"  again     {again}"
    for problem, plan in _examined(result):
        channels = words.channels(problem, comparison.side)
        for line in reproduce(problem, plan).splitlines():
            yield f"  alone     {line}  # {channels}"


def _what_changed(assessed: Assessed, result: Result | None) -> Iterator[str]:
    """Yield how the plan differs from the stored one, of a regression."""
    if assessed.finding is not Finding.REGRESSION or not (assessed.entry and result and result.candidate):
        return
    difference = plan_difference(assessed.entry.plan, result.candidate.plan)
    yield f"  changed   {difference.what}"
    yield from (f"            {line}" for line in difference.evidence)


def cause_lines(explanation: Explanation | None) -> Iterator[str]:
    """Yield why something is slower, and what fixes it."""
    if explanation is None:
        return
    yield f"  cause     {explanation.cause}"
    yield from (f"            {line}" for line in explanation.evidence)
    if explanation.remedy:
        yield f"  remedy    {explanation.remedy}"


def headline(comparison: Comparison) -> str:
    """Return such as `resnet50.L3 on onednn, 255 of 256 output channels (distance 1)`."""
    distance = f" (distance {comparison.distance})" if comparison.distance >= 0 else ""
    return f"{comparison.layer.name} on {comparison.backend}, {comparison.channels}{distance}"


def software(fingerprint: Fingerprint) -> str:
    """Return such as `onednn 3.12.0 (80afa71)`."""
    return f"{fingerprint.backend} {fingerprint.version} ({short_hash(fingerprint.build)})"


def command_again(comparison: Comparison, test: str, spec: WorkerSpec, repeated: Sequence[str] = ()) -> str:
    """Return the pytest command that measures this one comparison again, as this run did.

    `test` is a test function, or a folder of tests that all look at the comparison; `repeated` are the further options
    of this run that decide a verdict.
    """
    layer = comparison.layer
    chosen = layer.options
    side = [] if comparison.side is Side.OUT or comparison.paired else ["--side", str(comparison.side)]
    if _needs_keep(comparison, test):
        chosen += ["--keep", str(comparison.candidate.channels(comparison.side))]
    if comparison.tuned_logs:
        chosen += ["-m", "tuned_log", "--trials", str(comparison.tuned_logs[0].search.trials)]
    formats = ["--dtype", str(comparison.candidate.dtype), "--layout", str(comparison.candidate.layout)]
    named = f"{test}[{comparison.id}]" if "::" in test else test
    return shlex.join(["pytest", named, "--backend", spec.backend_spec, *chosen, *formats, *side, *repeated])


def _needs_keep(comparison: Comparison, test: str) -> bool:
    """Return whether a run has to be told the channel count: it is unusual, or the command names no item."""
    named_by_file = comparison.layer.source[:1] == ("--advised",)
    if comparison.paired or named_by_file or not comparison.distance:
        return False
    standard = [distance for distance, _ in pruning_distances(comparison.reference, comparison.side)]
    return comparison.studied or comparison.distance not in standard or "::" not in test


def _times(result: Result) -> Iterator[str]:
    """Yield both times with interval and plan."""
    sides = (
        ("unpruned", result.comparison.reference, np.concatenate([one.reference for one in result.passes])),
        ("pruned", result.comparison.candidate, np.concatenate([one.candidate for one in result.passes])),
    )
    examined = {"unpruned": result.reference, "pruned": result.candidate}
    for name, problem, samples in sides:
        known = examined[name]
        channels = words.channels(problem, result.comparison.side)
        plan = known.plan if known else "unknown"
        time = words.time_with_interval(samples) if samples.size else "no time was kept"
        yield f"  {name:9} {channels}: {time}, plan {plan}"


def _seen(result: Result) -> Iterator[str]:
    """Yield both problems as exact evidence has them."""
    for name, problem, seen in (
        ("unpruned", result.comparison.reference, result.reference),
        ("pruned", result.comparison.candidate, result.candidate),
    ):
        if seen is None:
            continue
        channels = words.channels(problem, result.comparison.side)
        count = f"{seen.instructions:,} instructions, " if seen.instructions else ""
        yield f"  {name:9} {channels}: {count}plan {seen.plan}"
        yield from (f"            {step}" for step in seen.plan.steps)


def _examined(result: Result | None) -> list[tuple[ConvProblem, Plan]]:
    if result is None:
        return []
    pairs = ((result.comparison.reference, result.reference), (result.comparison.candidate, result.candidate))
    return list({problem: examined.plan for problem, examined in pairs if examined}.items())
