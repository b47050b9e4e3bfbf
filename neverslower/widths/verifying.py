"""From a plan to advice: each layer that changes is measured, and what is slower is taken back and planned again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import Code, Verdict
from neverslower.maps.grid import Pair, comparison_of, unpruned_pair
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer
from neverslower.widths.building import Known, TakenBack, question_of
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
    """Widths with the verdicts of all layers that they change, and what was taken back on the way to them."""

    question: Question
    plan: Plan
    checked: tuple[Checked, ...]
    taken_back: tuple[Checked, ...]


def verified(known: Known, backend: str, choose: Choose, measure: Measure, rounds: int = ROUNDS) -> Advised:
    """Return widths of which every layer that they change was measured, and none is slower.

    Raises NeverSlowerError where no plan is left, or layers are still slower after the last round.
    """
    taken_back: list[Checked] = []
    verdicts: dict[tuple[str, str], Verdict] = {}
    for _ in range(rounds):
        gone: TakenBack = {(one.layer.problem.key, one.pair) for one in taken_back}
        question = question_of(known, gone)
        plan = choose(question)
        changed = _changed(known, plan)
        asked = [comparison_of(backend, layer, pair) for layer, pair in changed]
        unknown = [comparison for comparison in asked if comparison.identity[1:] not in verdicts]
        verdicts |= measure(unknown) if unknown else {}
        checked = [
            Checked(layer, pair, _verdict(comparison, verdicts))
            for (layer, pair), comparison in zip(changed, asked, strict=True)
        ]
        slower = [one for one in checked if one.verdict.code not in KEPT]
        if not slower:
            return Advised(question, plan, tuple(checked), tuple(taken_back))
        taken_back += slower
    listed = "; ".join(f"{one.layer.name} at {one.pair[0]} × {one.pair[1]}" for one in slower[:5])
    raise NeverSlowerError(
        f"no advice: after {rounds} rounds {len(slower)} layers are still {slower[0].verdict.code}, such as {listed}; "
        "give it more --rounds, or a finer --step"
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
    if comparison.identity[1:] not in verdicts:
        raise NeverSlowerError(f"{comparison.id} has no verdict; give it more time, or go on with --resume")
    return verdicts[comparison.identity[1:]]


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
        inside = (
            {count for count in between if min(neighbours) < count < max(neighbours, default=0)}
            if neighbours
            else set()
        )
        found[choice.name] = sorted({width, *inside})
    return found
