"""The file of a grid: compressed JSON, described in docs/reference/grids.md, with every sample of every pair."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.maps.grid import Grid, LayerGrid, Pair, unpruned_pair
from neverslower.maps.map_file import Tables, by_layer, cost_of, has_cost, how_measured, pass_row, unpruned_cost
from neverslower.maps.mapping import Mapped
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer

FORMAT, SCHEMA = "never-slower grid", 1


def document_of(mapped: Mapped, step: int, points: int) -> dict[str, Any]:
    """Return a grid as plain data; `step` and `points` are what was asked for of each axis."""
    results, tables = by_layer(mapped), Tables()
    layers = [_layer_fields(layer, results.get(layer.problem.key, []), tables) for layer in mapped.layers]
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        **how_measured(mapped),
        "step": step,
        "points_an_axis": points,
        "ended_early": mapped.ended_early,
        "asked": sum(mapped.findings.wanted.values()),
        "measured": sum(len(layer["pairs"]) for layer in layers),
        "processes": tables.processes.rows,
        "layers": layers,
    }


def _layer_fields(layer: Layer, results: Sequence[Result], tables: Tables) -> dict[str, Any]:
    measured = [result for result in results if has_cost(result)]
    whole = next((result.reference for result in measured if result.reference), None)
    cost = unpruned_cost(measured, whole)
    pairs = [unpruned_pair(result.comparison.candidate) for result in measured]
    missing = [result for result in results if not has_cost(result)]
    return {
        "name": layer.name,
        "places": list(layer.places),
        "unpruned": layer.problem.key,
        "cost": cost,
        "steps": [min((pair[side] for pair in pairs), default=0) for side in (0, 1)],
        "pairs": pairs,
        "estimates": [cost_of(result, cost) for result in measured],
        "passes": [[pass_row(pass_, tables) for pass_ in result.passes] for result in measured],
        "refusals": [[*unpruned_pair(result.comparison.candidate), result.verdict.reason.text] for result in missing],
    }


def is_grid(content: object) -> bool:
    """Return whether a compressed JSON file that was read is a grid, of any version."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def load(path: Path) -> Grid:
    """Read a grid. Raises NeverSlowerError that names the file and what is wrong in it."""
    try:
        content = json.loads(lzma.decompress(path.read_bytes()))
    except OSError as error:
        raise NeverSlowerError(f"grid {path}: {error.strerror}; name the file that `map --grid` wrote") from error
    except (lzma.LZMAError, ValueError) as error:
        raise NeverSlowerError(f"grid {path}: not a compressed JSON file ({error}); measure it again") from None
    return of_document(path, content)


def of_document(path: Path, content: Mapping[str, Any]) -> Grid:
    """Return what `document_of` wrote as a grid; `path` names it in errors. Raises NeverSlowerError."""
    try:
        if content["format"] != FORMAT:
            raise NeverSlowerError(f"grid {path}: not a never-slower grid, but {content['format']!r}; use `map --grid`")
        if content["schema"] > SCHEMA:
            raise NeverSlowerError(
                f"grid {path}: schema {content['schema']} is newer than {SCHEMA}; update never-slower"
            )
        layers = [_layer(layer) for layer in content["layers"] if layer["cost"] is not None]
        return Grid(
            path,
            Fingerprint.from_dict(content["fingerprint"]),
            {layer.unpruned.key: layer for layer in layers},
            Evidence(content["evidence"]),
            str(content["ended_early"]),
            int(content["measured"]),
            int(content["asked"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NeverSlowerError(f"grid {path}: {type(error).__name__} {error}; measure it again") from None


def _layer(layer: Mapping[str, Any]) -> LayerGrid:
    """Return a layer's grid. Raises ValueError where a cost is not positive and finite."""
    problem = ConvProblem.from_key(layer["unpruned"])
    costs: dict[Pair, float] = {unpruned_pair(problem): float(layer["cost"])}
    for (inputs, outputs), cost in zip(layer["pairs"], layer["estimates"], strict=True):
        costs.setdefault((int(inputs), int(outputs)), float(cost))
    if not all(0 < cost < float("inf") for cost in costs.values()):
        raise ValueError(f"{layer['name']} has an invalid cost")
    return LayerGrid(str(layer["name"]), problem, costs, tuple(layer["places"]))
