"""Measures one pass of one library: a few blocks of each comparison, layer by layer, in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Sequence

from neverslower.campaign.context import BackendRun
from neverslower.campaign.library import Library
from neverslower.campaign.progress import Phase
from neverslower.errors import Unavailable
from neverslower.evidence.observation import PairedPass
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code
from neverslower.problem.compared import Compared

MOST_TOGETHER = 8
"""Candidates of a layer that are timed together, so that two rounds of the reference are never far apart."""
BYTES_TOGETHER = 256_000_000
"""What their tensors may take together; a layer of larger ones is timed in parts, each with the reference."""


def measure_pass(run: BackendRun, library: Library, waiting: Sequence[Compared], number: int, phase: Phase) -> None:
    """Measure a few blocks of each comparison in a fresh process, the arms of a layer together."""
    waiting = library.waiting(waiting)
    if number or run.other or "profiles" in library.offers:
        for other in run.libraries():
            other.close_worker()  # Whoever else has a process on the device is no company for what is timed.
        library.renew(answered(library, waiting))
    done = 0
    for layer in shuffled(waiting, f"{run.settings.seed}/{run.name}/{number}"):
        for group in timed_together(layer):
            if library.lost or run.spent():
                return
            _measure_group(run, library, group, number)
            done += len(group)
            phase.show(f"measure, pass {number + 1}{library.label and f' {library.label}'}", done, len(waiting))
    run.guard.look(run.name, library.worker, "between")


def timed_together(layer: Sequence[Compared]) -> list[list[Compared]]:
    """Divide a layer's comparisons into groups that are small enough to be prepared and timed together."""
    groups: list[list[Compared]] = []
    taken = 0
    for comparison in layer:
        size = comparison.candidate.bytes
        if not groups or len(groups[-1]) == MOST_TOGETHER or taken + size > BYTES_TOGETHER:
            groups.append([])
            taken = comparison.reference.bytes
        groups[-1].append(comparison)
        taken += size
    return groups


def _measure_group(run: BackendRun, library: Library, group: Sequence[Compared], number: int) -> None:
    """Take a pass of each comparison in a group, but for those that an earlier run has measured."""
    waiting = []
    for comparison in group:
        if known := library.known(comparison):
            keep(run, library, comparison, known, False)
        else:
            waiting.append(comparison)
    if not waiting:
        return
    seed = f"{run.settings.seed}/{run.name}/{number}/{waiting[0].keys[0]}"
    candidates = [comparison.keys[1] for comparison in waiting]
    together = library.sweep(waiting[0].keys[0], candidates, run.settings.blocks, seed)
    answers = _one_by_one(run, library, waiting, number, together) if isinstance(together, Failure) else together
    for comparison, answer in zip(waiting, answers, strict=True):
        keep(run, library, comparison, answer, True)


def _one_by_one(
    run: BackendRun, library: Library, group: Sequence[Compared], number: int, together: Failure
) -> list[PairedPass | Failure]:
    """Return the pass of each after the group failed together, so that whoever made it fail has that to itself.

    A crash that nobody shows again is that of whom the process was preparing; where nobody knows that, the first one's:
    the library died on one of them, whatever it came from, and that must not be lost.
    """
    candidates = [comparison.keys[1] for comparison in group]
    suspect = candidates.index(together.subject) if together.subject in candidates else 0
    answers: list[PairedPass | Failure] = []
    for comparison in group:
        blocks, candidate_first = run.settings.blocks, number % 2 == 1
        try:
            answers.append(library.lost or library.measure(comparison, blocks, candidate_first))
        except Unavailable:
            blamed = together.code is Code.CRASHED and not any(map(_crashed, answers))
            if blamed:
                keep(run, library, group[suspect], together, True)
            for other, answer in zip(group, answers, strict=False):
                if not (blamed and other is group[suspect]):
                    keep(run, library, other, answer, True)
            raise
    if together.code is Code.CRASHED and not any(_crashed(answer) for answer in answers):
        answers[suspect] = together
    return answers


def _crashed(answer: PairedPass | Failure) -> bool:
    return isinstance(answer, Failure) and answer.code is Code.CRASHED


def shuffled(comparisons: Sequence[Compared], seed: str) -> list[list[Compared]]:
    """Return layers in a random order, and each layer's comparisons in one: what they share is prepared once."""
    layers: dict[str, list[Compared]] = {}
    for comparison in comparisons:
        layers.setdefault(comparison.keys[0], []).append(comparison)
    chance = random.Random(seed)
    groups = list(layers.values())
    chance.shuffle(groups)
    for group in groups:
        chance.shuffle(group)
    return groups


def answered(library: Library, waiting: Sequence[Compared]) -> bool:
    """Return whether an earlier run has measured all of a pass, so that it needs no process."""
    return all(library.known(comparison) for comparison in waiting)


def prepare_ahead(library: Library, group: Sequence[Compared]) -> None:
    """Prepare a layer's candidates before the layer, so that it need not be prepared again for each."""
    for comparison in group:
        if library.known(comparison) or comparison.against_itself:
            continue
        why = library.prepare(comparison)
        if why and not library.lost:
            library.fail(comparison, why)


def keep(run: BackendRun, library: Library, comparison: Compared, answer: PairedPass | Failure, new: bool) -> None:
    """Keep what a pass of a library gave, in the journal too if it is new, numbered among the comparison's own."""
    if isinstance(answer, Failure):
        if not library.lost:  # What was measured before it was lost is judged.
            library.fail(comparison, answer)
        return
    number = max(library.taken(comparison), library.recorded.numbers.get(comparison.identity, 0))
    library.samples.setdefault(comparison.identity, []).append(answer)
    if new:
        library.recorded.numbers[comparison.identity] = number + 1
        library.write_samples("measured", comparison, number, answer)
        run.guard.measured(comparison, library.worker)
