"""Say which widths a model should be pruned to: tables for people, JSON for programs, CSV and ratios for pruners."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence
from neverslower.judge.verdict import Code
from neverslower.maps.advice_file import WIDTHS, WIDTHS_SCHEMA
from neverslower.maps.grid import problem_at, unpruned_pair
from neverslower.models.coupling import Group
from neverslower.widths.budget import Budget, Resource
from neverslower.widths.building import Known
from neverslower.widths.problem import Plan, Price, Question
from neverslower.widths.structure import Axis, Structure
from neverslower.widths.verifying import Advised, Checked


@dataclass(frozen=True)
class WidthAdvice:
    """All that is said about the widths of one model on one device; `criterion` says what a channel is worth."""

    known: Known
    advised: Advised
    budgets: tuple[Budget, ...]
    criterion: str
    fingerprint: Fingerprint


def ratio_of(channels: int, keep: int) -> float:
    """Return the pruning ratio that leaves `keep` channels, also where a pruner rounds channels × (1 - ratio) down."""
    ratio = 1 - keep / channels
    return ratio if int(channels * (1 - ratio)) == keep else 1 - (keep + 0.5) / channels


def lines(advice: WidthAdvice) -> Iterator[str]:
    """Yield what a user reads: the whole, the groups, the layers with their verdicts, what was held or taken back."""
    advised = advice.advised
    yield from _whole_lines(advice)
    yield ""
    yield "| group | channels | keep | importance kept | layers that make it |"
    yield "|---|---|---|---|---|"
    for choice in advised.question.choices:
        group, keep = advice.known.structure.free[choice.name], advised.plan.widths[choice.name]
        made_by = ", ".join(dict.fromkeys(member.layer for member in group.members_on("out")))
        yield f"| {choice.name} | {choice.channels} | {keep} | {choice.share(keep):.1%} | {made_by} |"
    yield ""
    yield "| layer | in × out | keep | verdict against the unpruned layer |"
    yield "|---|---|---|---|"
    for one in advised.checked:
        whole, part = (f"{pair[0]} × {pair[1]}" for pair in (unpruned_pair(one.layer.problem), one.pair))
        yield f"| {_named(one)} | {whole} | {part} | {_verdict(one)} |"
    yield ""
    yield totals(advised.checked)
    for one in advised.taken_back:
        yield f"taken back: {one.layer.name} at {one.pair[0]} × {one.pair[1]} is {_verdict(one)}"
    yield from held_lines(advice.known.structure.held)


def _whole_lines(advice: WidthAdvice) -> Iterator[str]:
    advised, evidence = advice.advised, advice.known.grid.evidence
    question, plan = advised.question, advised.plan
    whole = question.price_at(question.unpruned)
    yield (
        f"{advice.known.model.title}: {question.share_kept(plan.widths):.1%} of the importance is kept "
        f"({advice.criterion}), for {', '.join(map(str, advice.budgets))}"
    )
    word = "latency" if evidence is Evidence.DEVICE_TIME else "instructions"
    for resource in Resource:
        before, after = whole.of(resource), plan.price.of(resource)
        what = f"{word} (estimated sum of its convolutions)" if resource is Resource.LATENCY else str(resource)
        amounts = " → ".join(_amount(resource, amount, evidence) for amount in (before, after))
        yield f"{what}: {after / before:.3f}× ({amounts})"
    share = advised.latency / whole.latency
    limits = [one.share for one in advice.budgets if one.resource is Resource.LATENCY]
    above = f", above the budget of {limits[0]:g}x" if limits and share > limits[0] else ""
    yield f"{word} by the verdicts below: {share:.3f}×{above}"
    proved = "proved to be the best" if plan.gap <= 1e-4 else f"at most {plan.gap:.2%} more could be kept"
    yield f"plan: {proved}, on the counts of the grid and by its estimates"
    grid = advice.known.grid
    if grid.measured < grid.asked:
        why = grid.ended_early or "the others were refused"
        yield f"grid: {grid.measured:,} of {counted(grid.asked, 'pair')} ({why}); nothing else is planned with"


def _amount(resource: Resource, amount: float, evidence: Evidence) -> str:
    if resource is Resource.PARAMS:
        return f"{amount / 1e6:,.2f} M"
    if resource is Resource.MACS:
        return f"{amount / 1e9:,.3f} G"
    return f"{amount * 1e6:,.1f} µs" if evidence is Evidence.DEVICE_TIME else f"{amount:,.0f} instructions"


def _named(one: Checked) -> str:
    return ", ".join(one.layer.places)


def _verdict(one: Checked) -> str:
    ratio = f": {one.verdict.ratio}" if one.verdict.ratio else f": {one.verdict.reason.text}"
    return f"{one.verdict.code}{ratio}"


def totals(checked: Sequence[Checked]) -> str:
    """Return in a line how many layers were measured, by verdict."""
    codes = [one.verdict.code for one in checked]
    words = {Code.FASTER: "faster", Code.FEWER: "with fewer instructions", Code.SAME: "not slower"}
    words[Code.UNDECIDED] = "undecided"
    listed = ", ".join(f"{codes.count(code)} {word}" for code, word in words.items() if code in codes)
    return f"{counted(len(codes), 'distinct layer')} changed: {listed or 'none'}; none is proved slower"


def held_lines(held: Mapping[str, str]) -> Iterator[str]:
    """Yield the groups that stay as they are, those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, why in held.items():
        names.setdefault(why, []).append(name)
    for why, group in names.items():
        listed = ", ".join(group[:5]) + (f" and {len(group) - 5} more" if len(group) > 5 else "")
        yield f"held: {listed}: {why}"


def least_line(structure: Structure, question: Question, plan: Plan, resource: Resource) -> str:
    """Return in a line the layers that take most of a resource at a plan, in shares of the unpruned whole.

    Each comes with its groups: the width that they have there, or that they are held, with the reasons behind.
    """
    whole, price = question.price_at(question.unpruned).of(resource), question.prices_at(plan.widths)
    most = sorted((row for row in price.items() if row[1].of(resource)), key=lambda row: -row[1].of(resource))[:5]
    groups = {name: structure.groups_of(name) for name, _ in most}
    parts = [
        f"{name} {one.of(resource) / whole:.3f}x ({', '.join(_width(group, plan) for group in groups[name])})"
        for name, one in most
    ]
    if fixed := question.fixed.of(resource) / whole:
        parts.append(f"what is in no group {fixed:.3f}x")
    named = dict.fromkeys(group.name for row in groups.values() for group in row)
    held = {name: structure.held[name] for name in named if name in structure.held}
    return "; ".join([", ".join(parts), *held_lines(held)])


def _width(group: Group, plan: Plan) -> str:
    width = plan.widths.get(group.name)
    return f"{group.name} held" if width is None else f"{group.name} {width} of {group.channels}"


# For programs


def document(advice: WidthAdvice) -> dict[str, Any]:
    """Return the advice as plain data; docs/reference/widths.schema.json is its schema."""
    advised, known = advice.advised, advice.known
    question, plan = advised.question, advised.plan
    return {
        "format": WIDTHS,
        "schema": WIDTHS_SCHEMA,
        "model": known.model.title,
        "source": list(known.model.source),
        "fingerprint": advice.fingerprint.as_dict(),
        "evidence": str(known.grid.evidence),
        "criterion": advice.criterion,
        "budgets": {str(budget.resource): budget.share for budget in advice.budgets},
        "importance_kept": question.share_kept(plan.widths),
        "gap": plan.gap,
        "unpruned": _price(question.price_at(question.unpruned)),
        "planned": _price(plan.price),
        "latency_by_verdicts": advised.latency,
        "groups": [_group(advice, name) for name in plan.widths],
        "held": dict(known.structure.held),
        "modules": modules(known, plan.widths),
        "pruning_ratio": ratios(known, plan.widths),
        "layers": [_layer(known, one) for one in advised.checked],
        "taken_back": [_layer(known, one) for one in advised.taken_back],
    }


def _price(price: Price) -> dict[str, float]:
    return {str(resource): price.of(resource) for resource in Resource}


def _group(advice: WidthAdvice, name: str) -> dict[str, Any]:
    group, keep = advice.known.structure.free[name], advice.advised.plan.widths[name]
    choice = next(choice for choice in advice.advised.question.choices if choice.name == name)
    return {
        "name": name,
        "channels": group.channels,
        "keep": keep,
        "importance_kept": choice.share(keep),
        "members": [f"{member.layer}.{member.axis}" for member in group.members],
    }


def _layer(known: Known, one: Checked) -> dict[str, Any]:
    problem, ratio = one.layer.problem, one.verdict.ratio
    costs = known.grid.layers[problem.key].costs
    return {
        "name": one.layer.name,
        "places": list(one.layer.places),
        "unpruned": problem.key,
        "advised": problem_at(problem, one.pair).key,
        "in": one.pair[0],
        "out": one.pair[1],
        "estimates": [costs[unpruned_pair(problem)], costs.get(one.pair)],
        "verdict": str(one.verdict.code),
        "ratio": ratio and [ratio.estimate, ratio.low, ratio.high],
    }


def modules(known: Known, widths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the (input, output) channels of each module that changes, normalisations among them, before and after."""
    found: dict[str, dict[str, int]] = {}
    for module, (inputs, outputs) in known.structure.axes.items():
        weights = known.weights.get(module)
        for word, axis in (("in", inputs), ("out", outputs)):
            if axis.parts and axis.at(widths) != axis.at(unpruned := _unpruned(known, axis)):
                found.setdefault(module, {}).update({f"{word}_before": axis.at(unpruned), word: axis.at(widths)})
        if module in found and weights and _depthwise(known, module):
            found[module]["groups"] = found[module]["in"]
    for name, axis in _norms(known).items():
        before, after = axis.at(_unpruned(known, axis)), axis.at(widths)
        if before != after:
            found[name] = {"out_before": before, "out": after}
    return found


def _unpruned(known: Known, axis: Axis) -> dict[str, int]:
    return {name: known.structure.free[name].channels for name, _ in axis.parts}


def _depthwise(known: Known, module: str) -> bool:
    return any(layer.problem.depthwise for layer in known.model.layers if layer.place.partition("#")[0] == module)


def _norms(known: Known) -> dict[str, Axis]:
    """Return the axis of each normalisation that a group has a part in."""
    parts: dict[str, list[tuple[str, int]]] = {}
    for group in known.structure.free.values():
        for norm in group.norms:
            parts.setdefault(norm.layer, []).append((group.name, norm.width))
    return {name: Axis(_constant_of_norm(known, name), tuple(row)) for name, row in parts.items()}


def _constant_of_norm(known: Known, name: str) -> int:
    """Return the channels of a normalisation that belong to held groups."""
    return sum(
        group.channels * norm.width
        for group in known.structure.groups
        if group.name in known.structure.held
        for norm in group.norms
        if norm.layer == name
    )


def ratios(known: Known, widths: Mapping[str, int]) -> dict[str, float]:
    """Return the pruning ratio of each module that makes channels of a group, as Torch-Pruning's pruning_ratio_dict."""
    makers = {member.layer for name in widths for member in known.structure.free[name].members_on("out")}
    outputs = {name: known.structure.axes[name][1] for name in known.structure.axes if name in makers}
    return {name: ratio_of(axis.at(_unpruned(known, axis)), axis.at(widths)) for name, axis in outputs.items()}


def table(rows: Mapping[str, Mapping[str, int]]) -> str:
    """Return the widths of the modules as CSV: module, axis, channels, keep, ratio."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["module", "axis", "channels", "keep", "ratio"])
    writer.writerows(_csv_rows(rows))
    return text.getvalue()


def _csv_rows(rows: Mapping[str, Mapping[str, int]]) -> Iterable[list[Any]]:
    for module, row in rows.items():
        for axis in ("in", "out"):
            if axis in row:
                channels, keep = row[f"{axis}_before"], row[axis]
                yield [module, axis, channels, keep, f"{1 - keep / channels:.6f}"]
