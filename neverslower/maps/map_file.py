"""The file of a map: compressed JSON, described in docs/reference/maps.md, with its plans and kernels stored once."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.kernels import Kernel, kernels
from neverslower.evidence.observation import Curve, Plan
from neverslower.files import writing
from neverslower.maps.staircase import Staircase
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer

FORMAT, SCHEMA = "never-slower map", 1


@dataclass
class MappedLayer:
    """A layer's points in the order in which they were measured, the unpruned layer many times among them.

    `rounds` are the whole nanoseconds of a round, of `iterations` calls each; `refusals` say why a count is missing.
    """

    layer: Layer
    counts: list[int] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    rounds: list[list[int]] = field(default_factory=list)
    plans: list[Plan | None] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)

    def add(self, curve: Curve) -> None:
        """Add the points of a chunk; rounds become whole nanoseconds, which is finer than any GPU's event."""
        for count, samples, iterations, plan, refusal in zip(
            curve.counts, curve.samples, curve.iterations, curve.plans, curve.refusals, strict=True
        ):
            if refusal:
                self.refusals[count] = refusal
                continue
            self.refusals.pop(count, None)  # An earlier try may have ended in a crash.
            self.counts.append(count)
            self.iterations.append(iterations)
            self.rounds.append(np.rint(samples * iterations * 1e9).astype(int).tolist())
            self.plans.append(plan)


def document_of(
    fingerprint: Fingerprint,
    settings: Mapping[str, Any],
    began: str,
    mapped: Sequence[MappedLayer],
    dispatched: Mapping[tuple[str, int], Plan],
    seconds: float,
) -> dict[str, Any]:
    """Return a map as plain data; `dispatched` are plans with their kernels, by the layer's key and the count.

    `began` is a time in ISO format, `seconds` what planning and measuring took.
    """
    plans, dispatches, names = _Interned(), _Interned(), _Interned()
    layers = [_layer_fields(layer, dispatched, plans, dispatches, names) for layer in mapped]
    busy = sum(sum(map(sum, layer.rounds)) for layer in mapped) / 1e9
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "fingerprint": fingerprint.as_dict(),
        "settings": dict(settings),
        "began": began,
        "points": sum(len(set(layer.counts)) for layer in mapped),
        "seconds": round(seconds, 3),
        "busy_seconds": round(busy, 3),
        "kernels": names.rows,
        "plans": plans.rows,
        "dispatches": dispatches.rows,
        "layers": layers,
    }


def _layer_fields(
    mapped: MappedLayer,
    dispatched: Mapping[tuple[str, int], Plan],
    plans: _Interned,
    dispatches: _Interned,
    names: _Interned,
) -> dict[str, Any]:
    key = mapped.layer.problem.key
    looked_up = [
        _same(plan, dispatched.get((key, count))) for plan, count in zip(mapped.plans, mapped.counts, strict=True)
    ]
    return {
        "name": mapped.layer.name,
        "places": list(mapped.layer.places),
        "unpruned": key,
        "counts": mapped.counts,
        "iterations": mapped.iterations,
        "round_nanoseconds": mapped.rounds,
        "plan": [plan and plans.number(_plan_row(plan)) for plan in mapped.plans],
        "dispatch": [plan and dispatches.number(_launch_rows(plan, names)) for plan in looked_up],
        "refusals": {str(count): text for count, text in sorted(mapped.refusals.items())},
        "disturbed": mapped.disturbed,
    }


def _same(measured: Plan | None, looked_up: Plan | None) -> Plan | None:
    """Return the plan that was looked up, None where it is not the one that was measured.

    A library that searches for the best plan may choose another one each time.
    """
    if measured and looked_up and looked_up.name.partition(":")[0] == measured.name.partition(":")[0]:
        return looked_up
    return None


class _Interned:
    """Rows that are stored once each, and referred to by their number."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, row: Any) -> int:
        """Return the number of a row, which is added where it is new."""
        text = json.dumps(row)
        if text not in self._numbers:
            self._numbers[text] = len(self.rows)
            self.rows.append(row)
        return self._numbers[text]


def _plan_row(plan: Plan) -> list[Any]:
    return [plan.name, plan.rank, plan.offered, plan.workspace]


def _launch_rows(plan: Plan, names: _Interned) -> list[list[int]]:
    """Return each launch as [kernel's number, grid x, y, z, block x, y, z]."""
    return [[names.number(kernel.name), *kernel.grid, *kernel.block] for kernel in kernels(plan)]


def probe(path: Path) -> None:
    """Make sure, before anything is measured, that a map can be written there. Raises NeverSlowerError."""
    try:
        writing.probe(path.parent)
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}; name another file") from error


def save(path: Path, document: Mapping[str, Any]) -> None:
    """Write a map, whole or not at all. Raises NeverSlowerError."""
    data = lzma.compress(json.dumps(document, separators=(",", ":")).encode(), preset=9)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.write_whole(path, data)
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}; name another file") from error


@dataclass(frozen=True)
class Map:
    """A stored map; a layer whose unpruned self was not measured has no staircase."""

    path: Path
    fingerprint: Fingerprint
    staircases: tuple[Staircase, ...]
    seconds: float
    busy_seconds: float

    def staircase(self, name: str) -> Staircase:
        """Return a layer's staircase. Raises NeverSlowerError, which lists the layers of the map."""
        for staircase in self.staircases:
            if staircase.name == name:
                return staircase
        names = ", ".join(staircase.name for staircase in self.staircases)
        raise NeverSlowerError(f"{self.path} has no {name} (has {names})")


def load(path: Path) -> Map:
    """Read a map. Raises NeverSlowerError that names the file and what is wrong in it."""
    try:
        content = json.loads(lzma.decompress(path.read_bytes()))
    except OSError as error:
        raise NeverSlowerError(f"map {path}: {error.strerror}") from error
    except (lzma.LZMAError, ValueError) as error:
        raise NeverSlowerError(f"map {path}: not a compressed JSON file ({error}); measure it again") from None
    try:
        if content["format"] != FORMAT:
            raise NeverSlowerError(f"map {path}: not a never-slower map")
        if content["schema"] > SCHEMA:
            raise NeverSlowerError(
                f"map {path}: schema {content['schema']} is newer than {SCHEMA}; update never-slower"
            )
        fingerprint = Fingerprint.from_dict(content["fingerprint"])
        whole = [layer for layer in content["layers"] if _has_unpruned(layer)]
        staircases = tuple(_staircase(layer, content) for layer in whole)
        return Map(path, fingerprint, staircases, float(content["seconds"]), float(content["busy_seconds"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise NeverSlowerError(f"map {path}: {type(error).__name__} {error}; measure it again") from None


def _has_unpruned(layer: Mapping[str, Any]) -> bool:
    """Tell whether the unpruned layer was measured; it was not where the map was interrupted, or the layer refused."""
    return ConvProblem.from_key(layer["unpruned"]).out_channels in layer["counts"]


def _staircase(layer: Mapping[str, Any], content: Mapping[str, Any]) -> Staircase:
    """Return a layer's staircase: by ascending count, the median seconds of a call over all rounds of that count.

    Raises ValueError where a time is not positive and finite, KeyError where a field is missing.
    """
    rounds: dict[int, list[float]] = {}
    plans: dict[int, Plan] = {}
    rows = zip(
        layer["counts"], layer["iterations"], layer["round_nanoseconds"], layer["plan"], layer["dispatch"], strict=True
    )
    for count, iterations, nanoseconds, plan, dispatch in rows:
        rounds.setdefault(count, []).extend(nanosecond / iterations / 1e9 for nanosecond in nanoseconds)
        plans[count] = _plan(content, plan, dispatch)
    counts = sorted(rounds)
    seconds = np.array([np.median(rounds[count]) for count in counts])
    if not counts or not np.all(np.isfinite(seconds)) or np.any(seconds <= 0):
        raise ValueError(f"{layer['name']} has an invalid time")
    problem = ConvProblem.from_key(layer["unpruned"])
    return Staircase(str(layer["name"]), problem, tuple(counts), seconds, tuple(plans[count] for count in counts))


def _plan(content: Mapping[str, Any], plan: int, dispatch: int | None) -> Plan:
    name, rank, offered, workspace = content["plans"][plan]
    launches = content["dispatches"][dispatch] if dispatch is not None else []
    steps = [
        str(Kernel(content["kernels"][kernel], (gx, gy, gz), (bx, by, bz)))
        for kernel, gx, gy, gz, bx, by, bz in launches
    ]
    return Plan(name, tuple(steps), rank=rank, offered=offered, workspace=workspace)
