"""The file of a map: compressed JSON, described in docs/reference/maps.md, with its plans and kernels stored once."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.campaign.findings import Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.kernels import Kernel
from neverslower.evidence.observation import Evidence, Examined, PairedPass, Plan
from neverslower.files import writing
from neverslower.judge.joint import log_ratio
from neverslower.judge.verdict import Code, Interval
from neverslower.maps.mapping import Mapped
from neverslower.maps.staircase import Staircase, Stored
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

FORMAT, SCHEMA = "never-slower map", 2
SURVEY = 1
"""The schema of the first maps: surveys by one process, without verdicts."""


# Writing


def document_of(mapped: Mapped) -> dict[str, Any]:
    """Return a map as plain data."""
    results = by_layer(mapped)
    interned = Tables()
    layers = [
        _layer_fields(layer, results.get(layer.problem.key, []), interned)
        | _inferred_fields(layer.problem.key, mapped, results, interned)
        for layer in mapped.layers
    ]
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        **how_measured(mapped),
        "points": sum(len(layer["counts"]) for layer in layers),
        "decided": mapped.decided,
        "processes": interned.processes.rows,
        "kernels": interned.kernels.rows,
        "plans": interned.plans.rows,
        "dispatches": interned.dispatches.rows,
        "layers": layers,
    }


def how_measured(mapped: Mapped) -> dict[str, Any]:
    """Return, as plain data, on what, how and when a map or a grid was measured."""
    passes = next((result.passes for result in mapped.findings.results.values() if result.passes), ())
    return {
        "evidence": str(mapped.evidence),
        "fingerprint": mapped.findings.fingerprints[mapped.backend].as_dict(),
        "remarks": list(mapped.findings.remarks.get(mapped.backend, ())),
        "settings": asdict(mapped.settings),
        "clock": passes[0].clock if passes else "",
        "cache": passes[0].cache if passes else "",
        "began": mapped.began,
        "seconds": round(mapped.seconds, 3),
    }


def by_layer(mapped: Mapped) -> dict[str, list[Result]]:
    """Return the results of each layer, by the key of its problem, in ascending order of their counts."""
    results: dict[str, list[Result]] = {}
    for result in mapped.findings.results.values():
        results.setdefault(result.comparison.reference.key, []).append(result)
    return {key: sorted(row, key=_kept) for key, row in results.items()}


def _layer_fields(layer: Layer, results: Sequence[Result], tables: Tables) -> dict[str, Any]:
    measured = [result for result in results if has_cost(result)]
    whole = next((result.reference for result in measured if result.reference), None)
    cost = unpruned_cost(measured, whole)
    missing = [result for result in results if not has_cost(result)]
    return {
        "name": layer.name,
        "places": list(layer.places),
        "unpruned": layer.problem.key,
        "cost": cost,
        "plan_unpruned": whole and tables.plan(whole.plan),
        "dispatch_unpruned": whole and tables.dispatch(whole.plan),
        "side": next((str(result.comparison.side) for result in results), str(Side.OUT)),
        "counts": [_kept(result) for result in measured],
        "costs": [cost_of(result, cost) for result in measured],
        "verdict": [str(result.verdict.code) for result in measured],
        "ratio": [_interval(result.verdict.ratio) for result in measured],
        "plan": [result.candidate and tables.plan(result.candidate.plan) for result in measured],
        "dispatch": [result.candidate and tables.dispatch(result.candidate.plan) for result in measured],
        "passes": [[pass_row(pass_, tables) for pass_ in result.passes] for result in measured],
        "refusals": {str(_kept(one)): one.verdict.reason.text for one in missing},
    }


def _inferred_fields(
    key: str, mapped: Mapped, results: Mapping[str, Sequence[Result]], tables: Tables
) -> dict[str, Any]:
    """Return the counts that were not timed, with their plans and the costs that those timed imply; no verdict."""
    inferred = mapped.inferred.get(key)
    cost = unpruned_cost([result for result in results.get(key, ()) if has_cost(result)], None)
    if inferred is None or cost is None:
        return {}
    fields = {
        "counts": list(inferred.counts),
        "costs": [float(f"{cost * ratio:.5g}") for ratio in inferred.ratios],
        "plan": [tables.plan(plan) for plan in inferred.plans],
        "dispatch": [tables.dispatch(plan) for plan in inferred.plans],
    }
    return {"inferred": fields}


def _kept(result: Result) -> int:
    """Return the channels that a count keeps."""
    return result.comparison.candidate.channels(result.comparison.side)


def has_cost(result: Result) -> bool:
    """Return whether a count was timed, or its instructions counted."""
    if result.reference is None or result.candidate is None:
        return False
    return bool(result.candidate.instructions) or any(len(pass_.seconds) for pass_ in result.passes)


def unpruned_cost(results: Sequence[Result], whole: Examined | None) -> float | int | None:
    """Return the median seconds of a call of the unpruned layer over all rounds, or its instructions."""
    if whole and whole.instructions:
        return whole.instructions
    rounds = [pass_.reference for result in results for pass_ in result.passes]
    return float(f"{np.median(np.concatenate(rounds)):.5g}") if rounds else None


def cost_of(result: Result, unpruned: float | int | None) -> float | int | None:
    """Return the instructions of a count, or its seconds: the unpruned layer's times the ratio of a usual pass.

    Both sides of a ratio ran beside each other, so a clock that changed between two passes does not move it.
    """
    if result.candidate and result.candidate.instructions:
        return result.candidate.instructions
    ratios = [log_ratio(pass_) for pass_ in result.passes if len(pass_.seconds)]
    return float(f"{unpruned * np.exp(np.median(ratios)):.5g}") if unpruned and ratios else None


def _interval(ratio: Interval | None) -> list[float] | None:
    if ratio is None:
        return None
    return [float(f"{value:.5g}") for value in (ratio.estimate, ratio.low, ratio.high)]


def pass_row(pass_: PairedPass, tables: Tables) -> list[Any]:
    """Return a pass as [process, iterations of both sides, nanoseconds of their rounds]; see docs/reference/maps.md."""
    rounds = [
        np.rint(side * calls * 1e9).astype(int).tolist()
        for side, calls in zip((pass_.reference, pass_.candidate), pass_.iterations, strict=True)
    ]
    return [tables.processes.number(pass_.started or 0.0), list(pass_.iterations), *rounds]


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


class Tables:
    """What many counts share: plans, kernels and their launches, and the processes that measured."""

    def __init__(self) -> None:
        self.plans, self.dispatches, self.kernels, self.processes = (_Interned() for _ in range(4))

    def plan(self, plan: Plan) -> int:
        """Return the number of [name, rank, offered, workspace]."""
        return self.plans.number([plan.name, plan.rank, plan.offered, plan.workspace])

    def dispatch(self, plan: Plan) -> int:
        """Return the number of a plan's steps: each [kernel's number, grid x, y, z, block x, y, z], or its text."""
        return self.dispatches.number([self._step(step) for step in plan.steps])

    def _step(self, step: str) -> list[int] | str:
        kernel = Kernel.parse(step)
        return [self.kernels.number(kernel.name), *kernel.grid, *kernel.block] if kernel else step


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


# Reading


@dataclass(frozen=True)
class Map:
    """A stored map; a layer whose unpruned self was not measured has no staircase.

    `seconds` is what measuring took. A `survey` has no verdicts: each count was measured once, in one process.
    """

    path: Path
    fingerprint: Fingerprint
    staircases: tuple[Staircase, ...]
    seconds: float
    evidence: Evidence = Evidence.DEVICE_TIME
    survey: bool = False

    def staircase(self, name: str) -> Staircase:
        """Return a layer's staircase, by the name that is asked for: places of one shape share what was measured.

        Raises NeverSlowerError, which lists the layers of the map.
        """
        for staircase in self.staircases:
            if staircase.answers_to(name):
                return replace(staircase, name=name)
        names = ", ".join(staircase.name for staircase in self.staircases)
        raise NeverSlowerError(f"{self.path} has no {name} (has {names})")


def load(path: Path) -> Map:
    """Read a map. Raises NeverSlowerError that names the file and what is wrong in it."""
    return of_document(path, content_of(path))


def content_of(path: Path) -> Any:
    """Return what a map's file holds, unchecked. Raises NeverSlowerError where it is no compressed JSON."""
    try:
        return json.loads(lzma.decompress(path.read_bytes()))
    except OSError as error:
        raise NeverSlowerError(f"map {path}: {error.strerror}") from error
    except (lzma.LZMAError, ValueError) as error:
        raise NeverSlowerError(f"map {path}: not a compressed JSON file ({error}); measure it again") from None


def of_document(path: Path, content: Mapping[str, Any]) -> Map:
    """Return what `document_of` wrote as a map; `path` names it in errors. Raises NeverSlowerError."""
    try:
        if content["format"] != FORMAT:
            raise NeverSlowerError(f"map {path}: not a never-slower map")
        if content["schema"] > SCHEMA:
            raise NeverSlowerError(
                f"map {path}: schema {content['schema']} is newer than {SCHEMA}; update never-slower"
            )
        return _map(path, content)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise NeverSlowerError(f"map {path}: {type(error).__name__} {error}; measure it again") from None


def _map(path: Path, content: Mapping[str, Any]) -> Map:
    survey = content["schema"] == SURVEY
    read = _surveyed if survey else _judged
    staircases = tuple(
        replace(found, places=tuple(layer.get("places", ())))
        for layer in content["layers"]
        if (found := read(layer, content))
    )
    evidence = Evidence.DEVICE_TIME if survey else Evidence(content["evidence"])
    return Map(
        path, Fingerprint.from_dict(content["fingerprint"]), staircases, float(content["seconds"]), evidence, survey
    )


def _judged(layer: Mapping[str, Any], content: Mapping[str, Any]) -> Staircase | None:
    """Return a layer's staircase, None where nothing of it was measured; see `_staircase` for what is raised."""
    problem = ConvProblem.from_key(layer["unpruned"])
    if layer["cost"] is None:
        return None
    rows = zip(layer["plan"], layer["dispatch"], strict=True)
    plans = [_plan(content, plan, dispatch) for plan, dispatch in rows]
    whole = _plan(content, layer["plan_unpruned"], layer["dispatch_unpruned"])
    verdicts = [
        Stored(Code(code), ratio and Interval(*ratio))
        for code, ratio in zip(layer["verdict"], layer["ratio"], strict=True)
    ]
    side = Side(layer.get("side", Side.OUT))
    counts, costs = [*layer["counts"], problem.channels(side)], [*layer["costs"], layer["cost"]]
    evidence = Evidence(content["evidence"])
    staircase = _staircase(str(layer["name"]), problem, counts, costs, [*plans, whole], verdicts, evidence)
    return replace(staircase, side=side, inferred=_inferred(layer.get("inferred"), staircase))


def _inferred(fields: Mapping[str, Any] | None, timed: Staircase) -> Mapping[int, float]:
    """Return the costs of the counts that were not timed. Raises ValueError where one was timed too, or can't be."""
    if not fields:
        return {}
    inferred = dict(zip(map(int, fields["counts"]), map(float, fields["costs"]), strict=True))
    if set(inferred) & set(timed.counts) or not all(0 < count < timed.counts[-1] for count in inferred):
        raise ValueError(f"{timed.name} has counts that are both timed and inferred, or that it can't be pruned to")
    if not all(0 < cost < np.inf for cost in inferred.values()):
        raise ValueError(f"{timed.name} has an inferred cost that is invalid")
    return inferred


def _surveyed(layer: Mapping[str, Any], content: Mapping[str, Any]) -> Staircase | None:
    """Return a layer's staircase from one of the first maps: the median seconds over all rounds of each count.

    None where the unpruned layer was not measured.
    """
    problem = ConvProblem.from_key(layer["unpruned"])
    if problem.out_channels not in layer["counts"]:
        return None
    rounds: dict[int, list[float]] = {}
    plans: dict[int, Plan] = {}
    rows = zip(
        layer["counts"], layer["iterations"], layer["round_nanoseconds"], layer["plan"], layer["dispatch"], strict=True
    )
    for count, iterations, nanoseconds, plan, dispatch in rows:
        rounds.setdefault(count, []).extend(nanosecond / iterations / 1e9 for nanosecond in nanoseconds)
        plans[count] = _plan(content, plan, dispatch)
    counts = sorted(rounds)
    medians = [float(np.median(rounds[count])) for count in counts]
    return _staircase(str(layer["name"]), problem, counts, medians, [plans[count] for count in counts], ())


def _staircase(
    name: str,
    problem: ConvProblem,
    counts: Sequence[int],
    costs: Sequence[float],
    plans: Sequence[Plan],
    verdicts: Sequence[Stored],
    evidence: Evidence = Evidence.DEVICE_TIME,
) -> Staircase:
    """Return a staircase. Raises ValueError where a cost is not positive and finite, or the counts do not ascend."""
    values = np.array(costs, dtype=float)
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ValueError(f"{name} has an invalid time")
    if list(counts) != sorted(set(counts)) or not len(counts) == len(values) == len(plans):
        raise ValueError(f"{name} has counts that do not ascend, or fit nothing")
    return Staircase(name, problem, tuple(counts), values, tuple(plans), tuple(verdicts), evidence)


def _plan(content: Mapping[str, Any], plan: int, dispatch: int | None) -> Plan:
    name, rank, offered, workspace = content["plans"][plan]
    steps = content["dispatches"][dispatch] if dispatch is not None else []
    return Plan(name, tuple(_step(content, step) for step in steps), rank=rank, offered=offered, workspace=workspace)


def _step(content: Mapping[str, Any], step: Sequence[int] | str) -> str:
    if isinstance(step, str):
        return step
    kernel, gx, gy, gz, bx, by, bz = step
    return str(Kernel(content["kernels"][kernel], (gx, gy, gz), (bx, by, bz)))
