"""Say which channel counts a layer should be pruned to: a table for people, and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence
from neverslower.judge.verdict import STANDARD, Code, Interval, ReasonCode, Verdict
from neverslower.maps.advice import Advice
from neverslower.maps.advice_file import FORMAT, OF_A_SIDE, OF_OUTPUTS
from neverslower.maps.shape import shape_of
from neverslower.maps.staircase import Staircase
from neverslower.problem.convolution import Side


def advice_lines(advice: Advice) -> Iterator[str]:
    """Yield a Markdown table of a layer's advised counts, after a line on its shape."""
    staircase = advice.staircase
    fewest = "fewest instructions: " if staircase.evidence is Evidence.INSTRUCTIONS else ""
    yield f"{staircase.name}: {fewest}{_shape(staircase)}"
    for larger, smaller, verdict in advice.taken_back:
        yield f"taken back: {smaller} against {larger} is {why_not_faster(verdict)}"
    if not advice.steps:
        counted = staircase.evidence is Evidence.INSTRUCTIONS
        better = "takes fewer instructions" if counted else "is proved faster"
        yield f"no pruned count {better} than the unpruned {staircase.counts[-1]} {_channels(staircase)}"
        return
    yield f"| {_channels(staircase)} | cost | of unpruned | against the next larger advised count |"
    yield "|---|---|---|---|"
    for step in advice.steps:
        cost, share = cost_words(staircase.evidence, step.cost), step.cost / float(staircase.costs[-1])
        yield f"| {step.count} | {cost} | {share:.2f} | {step.verdict.code} than {step.larger}: {step.verdict.ratio} |"


def why_not_faster(verdict: Verdict) -> str:
    """Return a verdict that takes a count back, in words: a SAME is one that excludes faster, not no slower alone."""
    line = 1 - STANDARD.tolerance
    excluded = (
        verdict.code is Code.SAME and verdict.ratio is not None and verdict.reason.code is ReasonCode.WITHIN_TARGET
    )
    why = f"proved to take {line:.2f} of the time or more" if excluded else verdict.reason.text
    return f"{verdict.code} ({_ratio(verdict)}{why})"


def _channels(staircase: Staircase) -> str:
    return "input channels" if staircase.side is Side.IN else "channels"


def _shape(staircase: Staircase) -> str:
    shape = shape_of(*staircase.curve)
    teeth = f", teeth at multiples of {shape.period}" if shape.period else ""
    parts = f"{counted(len(shape.treads), 'tread')}{teeth}, {counted(len(shape.spikes), 'spike')}, "
    parts += counted(len(staircase.hazards), "hazard")
    inferred = f" and {counted(len(staircase.inferred), 'inferred one')}" if staircase.inferred else ""
    return f"{shape.name}, {parts}, of {counted(len(staircase.counts), 'channel count')}{inferred}"


def _ratio(verdict: Verdict) -> str:
    return f"{verdict.ratio}: " if verdict.ratio else ""


def cost_words(evidence: Evidence, cost: float) -> str:
    """Return a cost with its unit."""
    if evidence is Evidence.INSTRUCTIONS:
        return f"{cost:,.0f} instructions"
    return f"{cost * 1e6:.2f} µs"


def advice_document(fingerprint: Fingerprint, advised: Sequence[Advice]) -> dict[str, Any]:
    """Return the advice on several layers as plain data; the schema is in docs/reference/advice.md."""
    return {
        "format": FORMAT,
        "schema": OF_OUTPUTS if all(one.staircase.side is Side.OUT for one in advised) else OF_A_SIDE,
        "fingerprint": fingerprint.as_dict(),
        "layers": [_layer(advice) for advice in advised],
    }


def _layer(advice: Advice) -> dict[str, Any]:
    staircase = advice.staircase
    return {
        "name": staircase.name,
        "problem": staircase.unpruned.key,
        "evidence": str(staircase.evidence),
        **({"side": str(staircase.side)} if staircase.side is not Side.OUT else {}),
        "shape": str(shape_of(*staircase.curve).name),
        "unpruned": {"channels": staircase.counts[-1], "cost": float(staircase.costs[-1])},
        "advised": [
            {"channels": step.count, "cost": step.cost, "against": step.larger, **verdict_fields(step.verdict)}
            for step in advice.steps
        ],
        "taken_back": [
            {"channels": smaller, "against": larger, **verdict_fields(verdict)}
            for larger, smaller, verdict in advice.taken_back
        ],
    }


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain data."""
    return {"verdict": str(verdict.code), "ratio": _listed(verdict.ratio)}


def _listed(ratio: Interval | None) -> list[float] | None:
    return None if ratio is None else [ratio.estimate, ratio.low, ratio.high]
