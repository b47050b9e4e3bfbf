"""Measures one pass of one library: a few blocks of each comparison, layer by layer, in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Sequence

from neverslower.campaign.context import BackendRun
from neverslower.campaign.library import Library
from neverslower.campaign.progress import Phase
from neverslower.evidence.observation import PairedPass
from neverslower.judge.failure import Failure
from neverslower.problem.comparison import Comparison


def measure_pass(run: BackendRun, library: Library, waiting: Sequence[Comparison], number: int, phase: Phase) -> None:
    """Measure a few blocks of each; in every other pass the candidates come first."""
    waiting = library.waiting(waiting)
    if number or run.other or "profiles" in library.offers:
        for other in run.libraries():
            other.close_worker()  # Whoever else has a process on the device is no company for what is timed.
        library.renew(answered(library, waiting, number))
    done = 0
    for group in shuffled(waiting, f"{run.settings.seed}/{run.name}/{number}"):
        if run.spent():
            return
        if number % 2:
            prepare_ahead(library, group, number)
        for comparison in library.waiting(group):
            if library.lost:
                return
            known = library.recorded.passes.get((comparison.identity, number))
            answer = known or library.measure(comparison, run.settings.blocks, candidate_first=number % 2 == 1)
            keep(run, library, comparison, number, answer, known is None)
            done += 1
            phase.show(f"measure, pass {number + 1}{library.label and f' {library.label}'}", done, len(waiting))
    run.guard.look(run.name, library.worker, "between")


def shuffled(comparisons: Sequence[Comparison], seed: str) -> list[list[Comparison]]:
    """Return layers in a random order, and each layer's comparisons in one: what they share is prepared once."""
    layers: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        layers.setdefault(comparison.keys[0], []).append(comparison)
    chance = random.Random(seed)
    groups = list(layers.values())
    chance.shuffle(groups)
    for group in groups:
        chance.shuffle(group)
    return groups


def answered(library: Library, waiting: Sequence[Comparison], number: int) -> bool:
    """Return whether an earlier run has measured all of a pass, so that it needs no process."""
    return all((comparison.identity, number) in library.recorded.passes for comparison in waiting)


def prepare_ahead(library: Library, group: Sequence[Comparison], number: int) -> None:
    """Prepare a layer's candidates before the layer, so that it need not be prepared again for each."""
    for comparison in group:
        if (comparison.identity, number) in library.recorded.passes or comparison.against_itself:
            continue
        why = library.prepare(comparison)
        if why and not library.lost:
            library.fail(comparison, why)


def keep(
    run: BackendRun, library: Library, comparison: Comparison, number: int, answer: PairedPass | Failure, new: bool
) -> None:
    """Keep what a pass of a library gave, in the journal too if it is new."""
    if isinstance(answer, Failure):
        if not library.lost:  # What was measured before it was lost is judged.
            library.fail(comparison, answer)
        return
    library.samples.setdefault(comparison.identity, []).append(answer)
    if new:
        library.write_samples("measured", comparison, number, answer)
        run.guard.measured(comparison, library.worker)
