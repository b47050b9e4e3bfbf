"""From a plan to advice: each layer that changes is measured, and what is slower is taken back and planned again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import Code, Verdict
from neverslower.maps.grid import Grid, Pair, comparison_of, unpruned_pair
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer
from neverslower.widths.building import Known, question_of
from neverslower.widths.problem import Plan, Question
from neverslower.widths.structure import Structure

Measure = Callable[[Sequence[Comparison]], Mapping[tuple[str, str], Verdict]]
"""Measures comparisons, and returns their verdicts by the keys of both problems, the unpruned one first."""
Choose = Callable[[Question], Plan]
"""Returns the plan for a question. Raises NeverSlowerError where there is none."""
ROUNDS = 4
"""Rounds of planning and measuring, after which nothing is advised while a layer is still slower."""
KEPT = (Code.FASTER, Code.SAME, Code.UNDECIDED, Code.FEWER)
"""The verdicts with which a layer's new widths are advised; an undecided one is counted and shown."""


@dataclass(frozen=True)
class Checked:
    """A layer at its advised (input, output) channels, with the verdict against its unpruned self."""

    layer: Layer
    pair: Pair
    verdict: Verdict


@dataclass(frozen=True)
class Advised:
    """Widths with the verdicts of all layers that they change, and what was taken back on the way to them.

    `latency` is the sum of all convolutions as the verdicts have it, in the unit of the grid: an estimate in a plan is
    one by one process, and the smallest of many is chosen.
    """

    question: Question
    plan: Plan
    checked: tuple[Checked, ...]
    taken_back: tuple[Checked, ...]
    latency: float


def verified(
    known: Known,
    backend: str,
    choose: Choose,
    measure: Measure,
    rounds: int = ROUNDS,
    limit: float = math.inf,
) -> Advised:
    """Return widths of which every layer that they change was measured, and none is slower; see `all_verified`."""
    return all_verified(known, backend, {"": choose}, measure, rounds, limit)[""]


def all_verified(
    known: Known,
    backend: str,
    chooses: Mapping[str, Choose],
    measure: Measure,
    rounds: int = ROUNDS,
    limit: float = math.inf,
) -> dict[str, Advised]:
    """Return the widths of several plans for one model, by name, whose layers are measured together.

    Every layer that a plan changes was measured, and none is slower. What was measured replaces the estimates, and a
    plan that takes more than `limit` by it is made again, but for the one of the last round. Raises NeverSlowerError
    where no plan is left, or layers are still slower after the last round.
    """
    taken_back: dict[str, list[Checked]] = {name: [] for name in chooses}
    verdicts: dict[tuple[str, str], Verdict] = {}
    advised: dict[str, Advised] = {}
    for number in range(1, rounds + 1):
        left = {name: choose for name, choose in chooses.items() if name not in advised}
        plans = {name: _planned(known, choose, taken_back[name]) for name, choose in left.items()}
        changed = {name: _changed(known, plan) for name, (_, plan) in plans.items()}
        verdicts |= _measured(backend, [one for row in changed.values() for one in row], verdicts, measure)
        for name, (question, plan) in plans.items():
            checked = [Checked(*one, _verdict(comparison_of(backend, *one), verdicts)) for one in changed[name]]
            latency, slower = _latency(known, plan, checked), [one for one in checked if one.verdict.code not in KEPT]
            if not slower and (latency <= limit or number == rounds):
                advised[name] = Advised(question, plan, tuple(checked), tuple(taken_back[name]), latency)
            taken_back[name] += slower
            known = replace(known, grid=_corrected(known.grid, checked))
        if len(advised) == len(chooses):
            return advised
    raise NeverSlowerError(_still_slower([one for row in taken_back.values() for one in row], rounds))


def _planned(known: Known, choose: Choose, taken_back: Sequence[Checked]) -> tuple[Question, Plan]:
    question = question_of(known, {(one.layer.problem.key, one.pair) for one in taken_back})
    return question, choose(question)


def _latency(known: Known, plan: Plan, checked: Sequence[Checked]) -> float:
    """Return the sum of all convolutions, of those that change by the ratio of their verdict where it has one."""
    ratios = {(one.layer.problem.key, one.pair): one.verdict.ratio.estimate for one in checked if one.verdict.ratio}
    total = 0.0
    for layer in known.model.layers:
        grid, pair = known.grid.of(layer), known.structure.pair_at(layer, plan.widths)
        ratio = ratios.get((layer.problem.key, pair))
        total += grid.costs.get(pair, grid.cost) if ratio is None else grid.cost * ratio
    return total


def _corrected(grid: Grid, checked: Sequence[Checked]) -> Grid:
    """Return a grid in which the ratios of verdicts replace the estimates of the same pairs."""
    layers = dict(grid.layers)
    for one in checked:
        known = layers[one.layer.problem.key]
        if one.verdict.ratio and one.pair in known.costs:
            costs = {**known.costs, one.pair: known.cost * one.verdict.ratio.estimate}
            layers[one.layer.problem.key] = replace(known, costs=costs)
    return replace(grid, layers=layers)


def _measured(
    backend: str,
    changed: Sequence[tuple[Layer, Pair]],
    verdicts: Mapping[tuple[str, str], Verdict],
    measure: Measure,
) -> Mapping[tuple[str, str], Verdict]:
    """Return the verdicts on what has none yet; places and plans that share a shape share its verdict."""
    asked = {comparison.identity[1:]: comparison for comparison in (comparison_of(backend, *one) for one in changed)}
    unknown = [comparison for identity, comparison in asked.items() if identity not in verdicts]
    return measure(unknown) if unknown else {}


def _still_slower(taken_back: Sequence[Checked], rounds: int) -> str:
    listed = "; ".join(
        f"{one.layer.name} at {one.pair[0]} × {one.pair[1]} {one.verdict.code}" for one in taken_back[-5:]
    )
    return (
        f"no advice: after {counted(rounds, 'round')} there are still layers that are slower or could not be measured, "
        f"such as {listed}; give it more --rounds, or a finer --step"
    )


def _changed(known: Known, plan: Plan) -> list[tuple[Layer, Pair]]:
    """Return the distinct layers that a plan changes, with the pair it gives them; `places` are those of this pair."""
    places: dict[tuple[str, Pair], list[Layer]] = {}
    for layer in known.model.layers:
        pair = known.structure.pair_at(layer, plan.widths)
        if pair != unpruned_pair(layer.problem):
            places.setdefault((layer.problem.key, pair), []).append(layer)
    return [
        (replace(layers[0], places=tuple(layer.name for layer in layers)), pair) for (_, pair), layers in places.items()
    ]


def _verdict(comparison: Comparison, verdicts: Mapping[tuple[str, str], Verdict]) -> Verdict:
    """Return the verdict on a comparison. Raises NeverSlowerError where nothing was measured that it could rest on."""
    verdict = verdicts.get(comparison.identity[1:])
    if verdict is None or (verdict.code is Code.UNDECIDED and verdict.ratio is None):
        why = f": {verdict.reason.text}" if verdict else ""
        raise NeverSlowerError(f"{comparison.id} has no verdict{why}; give it more time, or go on with --resume")
    return verdict


def around(structure: Structure, question: Question, plan: Plan, finest: int) -> dict[str, list[int]]:
    """Return for each group its chosen width, and those half-way to the neighbours that were measured.

    They are multiples of `finest`; where nothing lies between, there is nothing more to measure.
    """
    found: dict[str, list[int]] = {}
    for choice in question.choices:
        width = plan.widths[choice.name]
        place = choice.widths.index(width)
        neighbours = [*choice.widths[max(0, place - 1) : place], *choice.widths[place + 1 : place + 2]]
        between = {round((width + other) / 2 / finest) * finest for other in neighbours}
        inside = {count for count in between if choice.widths[0] < count < choice.channels}
        found[choice.name] = sorted({width, *inside})
    return found
