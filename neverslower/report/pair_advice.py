"""Say which pairs of (input, output) channels a layer should be pruned to: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neverslower.counted import counted
from neverslower.evidence.observation import Evidence
from neverslower.maps.advice_file import FORMAT, SCHEMA
from neverslower.maps.grid import Grid, Pair, unpruned_pair
from neverslower.maps.pairs import BOTH, PairAdvice
from neverslower.report.advice import cost_words, verdict_fields, why_not_faster


def pair_lines(advice: PairAdvice, grid: Grid) -> Iterator[str]:
    """Yield a Markdown table of a layer's advised pairs."""
    whole = unpruned_pair(advice.layer.problem)
    pairs = counted(len(advice.grid.costs), "pair")
    yield f"{advice.layer.name}: {len(advice.steps)} of {pairs} of (input × output) channels"
    for larger, pair, verdict in advice.taken_back:
        yield f"taken back: {_words(pair)} against {_words(larger)} is {why_not_faster(verdict)}"
    if len(advice.grid.costs) == 1:
        yield f"the grid has no pair but the unpruned {_words(whole)} channels; make it finer with --step"
        return
    if not advice.steps:
        better = "takes fewer instructions" if grid.evidence is Evidence.INSTRUCTIONS else "is proved faster"
        yield f"no pair {better} than the unpruned {_words(whole)} channels"
        return
    yield "| in × out | cost | of unpruned | against the next larger advised pairs |"
    yield "|---|---|---|---|"
    for step in advice.steps:
        against = ", ".join(f"{verdict.code} than {_words(above)}: {verdict.ratio}" for above, verdict in step.against)
        share = step.cost / advice.grid.cost
        yield f"| {_words(step.pair)} | {cost_words(grid.evidence, step.cost)} | {share:.2f} | {against} |"


def grid_line(grid: Grid) -> Iterator[str]:
    """Yield what is missing of a grid, where that is so."""
    if grid.measured < grid.asked:
        why = grid.ended_early or "the others were refused"
        yield f"grid: {grid.measured:,} of {counted(grid.asked, 'pair')} ({why}); nothing else is advised"


def pair_document(grid: Grid, advised: Sequence[PairAdvice]) -> dict[str, Any]:
    """Return the advice on several layers as plain data; the schema is in docs/reference/advice.md."""
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "fingerprint": grid.fingerprint.as_dict(),
        "layers": [_layer(grid, advice) for advice in advised],
    }


def _layer(grid: Grid, advice: PairAdvice) -> dict[str, Any]:
    return {
        "name": advice.layer.name,
        "problem": advice.layer.problem.key,
        "evidence": str(grid.evidence),
        "side": BOTH,
        "unpruned": {**_fields(unpruned_pair(advice.layer.problem)), "cost": advice.grid.cost},
        "advised": [
            {
                **_fields(step.pair),
                "cost": step.cost,
                "against": [{**_fields(above), **verdict_fields(verdict)} for above, verdict in step.against],
            }
            for step in advice.steps
        ],
        "taken_back": [
            {**_fields(pair), "against": [{**_fields(above), **verdict_fields(verdict)}]}
            for above, pair, verdict in advice.taken_back
        ],
    }


def _fields(pair: Pair) -> dict[str, int]:
    return {"in": pair[0], "out": pair[1]}


def _words(pair: Pair) -> str:
    return f"{pair[0]} × {pair[1]}"
