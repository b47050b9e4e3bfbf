"""Say how the layers of a pruned model were paired with its original's, and list what has no pair, with its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from neverslower.campaign.findings import Findings, Result
from neverslower.problem.networks import Layer
from neverslower.problem.pairing import By, Pair, Pairing, Unpaired
from neverslower.report import words

LISTED = 20
"""So many layers of a kind a summary lists."""


def lines(pairing: Pairing, findings: Findings | None = None, most: int | None = None) -> Iterator[str]:
    """Yield how two models were paired, and each layer that has no pair, with its time once there are findings.

    `most` limits how many of a kind are listed.
    """
    title = f"{pairing.original.title} → {pairing.pruned.title}"
    yield f"{title}: {_counted(pairing)}"
    ordered = [pair for pair in pairing.pairs if pair.by is By.ORDER]
    if ordered:
        yield f"{title}: paired by order, since the names differ: {_listed(list(map(_renamed, ordered)), most)}"
    if pairing.grown:
        yield f"{title}: more channels than the original: {_listed(list(map(_grown, pairing.grown)), most)}"
    yield from _without(pairing.unpaired[:most], findings)
    if most is not None and len(pairing.unpaired) > most:
        yield f"  … and {len(pairing.unpaired) - most} more without a pair; -v lists them all"


def _without(unpaired: Sequence[Unpaired], findings: Findings | None) -> Iterator[str]:
    """Yield each reason why layers have no pair once, and below it the layers with what they take."""
    by_reason: dict[str, list[Layer]] = {}
    for left in unpaired:
        by_reason.setdefault(left.why, []).append(left.layer)
    for why, layers in by_reason.items():
        yield f"  no pair: {why}"
        for layer in layers:
            times = ", ".join(_times(layer, findings)) if findings else ""
            yield f"    {layer.name}{f'  {times}' if times else ''}"


def _counted(pairing: Pairing) -> str:
    """Return such as `20 layers paired by name: 17 changed, 3 unchanged and not measured; 2 without a pair`."""
    by = Counter(pair.by for pair in pairing.pairs)
    ways = " and ".join(f"{count} by {way}" if len(by) > 1 else f"by {way}" for way, count in by.items())
    changed, paired = len(pairing.changed), len(pairing.pairs)
    counts = f"{changed} changed" + (f", {paired - changed} unchanged and not measured" if paired > changed else "")
    alone = f"; {len(pairing.unpaired)} without a pair" if pairing.unpaired else ""
    return f"{paired} layer{'' if paired == 1 else 's'} paired {ways}: {counts}{alone}" if by else f"no pair{alone}"


def _listed(texts: Sequence[str], most: int | None) -> str:
    more = f" and {len(texts) - most} more" if most is not None and len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _renamed(pair: Pair) -> str:
    return f"{pair.original.place} → {pair.pruned.place}"


def _grown(pair: Pair) -> str:
    return f"{pair.original.place} ({pair.compared('', ()).channels})"


def _times(layer: Layer, findings: Findings) -> list[str]:
    """Return what a layer takes by itself, on each backend and in each format that it was measured in."""
    results = [result for result in findings.results.values() if _is_of(layer, result)]
    if len(results) == 1:
        return [_amount(results[0])]
    return [f"{_amount(result)} ({_where(result)})" for result in results]


def _is_of(layer: Layer, result: Result) -> bool:
    """Return whether a result is of a layer alone, at whatever batch."""
    names = result.comparison.layer.places
    return result.comparison.against_itself and any(f"{name}@".startswith(f"{layer.name}@") for name in names)


def _where(result: Result) -> str:
    comparison = result.comparison
    batch = f", {comparison.reference.batch} images" if comparison.layer.batch else ""
    return f"{comparison.backend} {comparison.reference.dtype} {comparison.reference.layout}{batch}"


def _amount(result: Result) -> str:
    """Return the time or the instructions of a layer against itself, or what came of it instead."""
    if result.passes:
        rounds = [side for pass_ in result.passes for side in (pass_.reference, pass_.candidate)]
        return words.seconds(float(np.median(np.concatenate(rounds))))
    if result.candidate and result.candidate.instructions:
        return f"{result.candidate.instructions:,} instructions"
    return str(result.verdict.code)
