"""Make the parts of an account from a grid: what each layer costs over (input, output) channels, as estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neverslower.counted import counted
from neverslower.files.shown import shown
from neverslower.maps import grid_file, map_file
from neverslower.maps.grid import Grid, LayerGrid
from neverslower.page.account import Kind, LayerCosts, Source
from neverslower.page.numbers import rounded
from neverslower.page.of_journal import Parts

ESTIMATED = "estimates by one process, no verdicts"
PART = "a part of the grid"
"""How a remark begins that says so."""
EMPTY = "no layer has a time"
"""How a remark begins that says what is missing and how to get it."""


def add(parts: Parts, path: Path) -> None:
    """Add a grid. Raises NeverSlowerError where it can't be read."""
    content = map_file.content_of(path)
    stored = grid_file.of_document(path, content)
    parts.grids += [_costs(layer, len(parts.sources)) for layer in stored.layers.values()]
    parts.notes += _missing(content)
    parts.sources.append(_source(stored, content))


def _source(stored: Grid, content: Mapping[str, Any]) -> Source:
    why = stored.ended_early
    part = [f"{PART} ({why}): {stored.measured:,} of {counted(stored.asked, 'pair')} measured"] if why else []
    return Source.of(
        stored.fingerprint,
        name=shown(stored.path),
        kind=Kind.GRID,
        evidence=stored.evidence,
        remarks=(*part, *_empty(stored), *content.get("remarks", ())),
        settings=content.get("settings", {}),
        clock=content.get("clock", ""),
        cache=content.get("cache", ""),
        processes=len(content.get("processes", ())),
        seconds=content.get("seconds"),
    )


def _empty(stored: Grid) -> Iterator[str]:
    """Yield that nothing of a grid was measured, where that is so."""
    if not stored.layers:
        again = "the remarks say why, and `map --grid` measures it again"
        yield f"{EMPTY}; {'go on with the same `map --grid` and --resume' if stored.ended_early else again}"


def _costs(layer: LayerGrid, number: int) -> LayerCosts:
    inputs, outputs = (tuple(sorted(set(counts))) for counts in zip(*layer.costs, strict=True))
    known = {pair: rounded(cost) for pair, cost in layer.costs.items()}
    return LayerCosts(
        source=number,
        layer=layer.name,
        unpruned=layer.unpruned.key,
        whole=(layer.unpruned.in_channels, layer.unpruned.out_channels),
        inputs=inputs,
        outputs=outputs,
        costs=tuple(tuple(known.get((count, output)) for output in outputs) for count in inputs),
    )


def _missing(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield which layers have no cost at all, or pairs without one, with the first reason."""
    for layer in content["layers"]:
        refusals = layer["refusals"]
        if layer["cost"] is None:
            yield f"{layer['name']}: nothing of it was measured{f': {refusals[0][2]}' if refusals else ''}"
        elif refusals:
            yield f"{layer['name']}: {counted(len(refusals), 'pair')} without a cost: {refusals[0][2]}"
