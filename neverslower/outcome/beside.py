"""Another library measured in the same run: what it showed, as the baseline that this one is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neverslower.baseline.entry import Baseline, Entry, Known
from neverslower.campaign.findings import Findings, Result
from neverslower.evidence.kernels import kernels
from neverslower.evidence.observation import Plan
from neverslower.judge.cause import explain
from neverslower.judge.change import in_pairs, levels_of

Pair = tuple[str, str]
"""The keys of a comparison's reference and candidate."""


def baseline_of(before: Findings, backend: str, spec: str) -> Baseline | None:
    """Return what the other library showed, to be asked like a stored run; None where it could not be measured."""
    fingerprint = before.fingerprints.get(backend)
    if fingerprint is None:
        return None
    mine = [result for result in before.results.values() if result.comparison.backend == backend and result.candidate]
    mine = [result for result in mine if result.verdict.code.measured]  # What crashed is nothing to be set against.
    entries = {result.comparison.identity[1:]: _entry(result) for result in mine if not result.comparison.studied}
    evidence = mine[0].evidence if mine else Baseline.evidence
    return Baseline(Path(spec), fingerprint, entries, evidence, beside=spec)


def _entry(result: Result) -> Entry:
    comparison, candidate = result.comparison, result.candidate
    return Entry(
        name=f"[{comparison.id}]",
        layer=comparison.layer.name,
        reference=comparison.reference.key,
        candidate=comparison.candidate.key,
        side=comparison.side,
        plan=candidate.plan if candidate else Plan("unknown"),
        levels=tuple(levels_of(result.passes)),
        known=Known(result.verdict.code, result.verdict.ratio),
        instructions=candidate.instructions if candidate else None,
        paired=comparison.paired,
        error=candidate.error if candidate else None,
    )


def differences(now: Findings, before: Findings, backend: str) -> dict[Pair, list[float]]:
    """Return new − old log median of each pair of passes, where both were measured."""
    pairs: dict[Pair, list[float]] = {}
    for identity, result in now.results.items():
        other = before.results.get(identity)
        if identity[0] != backend or other is None or result.comparison.studied:
            continue
        if not (result.verdict.code.measured and other.verdict.code.measured):
            continue
        if levels := in_pairs(other.passes, result.passes):
            pairs[identity[1], identity[2]] = levels
    return pairs


@dataclass(frozen=True)
class Difference:
    """How two plans differ: in a word, with the evidence."""

    what: str
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join((self.what, *self.evidence))


def plan_difference(before: Plan, now: Plan) -> Difference:
    """Return how two plans differ: in kernels, by name, in dispatch, or in nothing that the library reports."""
    if kernels(before) and kernels(now):
        explanation = explain(before, now, None)
        if before.steps != now.steps:
            return Difference(str(explanation.cause), tuple(_of_libraries(explanation.evidence)))
    elif before.steps != now.steps:
        return Difference("dispatch", (f"{', '.join(before.steps)} became {', '.join(now.steps)}",))
    if before.name != now.name:
        return Difference("plan", (f"{before.name} became {now.name}",))
    return Difference("scheduling", ("same plan and dispatch: the kernels themselves changed, or how they are run",))


def _of_libraries(evidence: tuple[str, ...]) -> Iterator[str]:
    """Return the evidence in words of libraries, without what is said of the best plan, which nobody measured here."""
    lines = (line for line in evidence if "best plan" not in line)
    return (line.replace("only the pruned layer launches", "only the new one launches") for line in lines)
