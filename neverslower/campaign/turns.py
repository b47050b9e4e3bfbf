"""Measures two libraries by turns of a few blocks: what the machine does meanwhile, it does to both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neverslower.campaign.context import BackendRun
from neverslower.campaign.library import Library
from neverslower.campaign.passes import answered, keep, prepare_ahead, shuffled
from neverslower.campaign.progress import Phase
from neverslower.evidence.observation import PairedPass
from neverslower.judge.failure import Failure
from neverslower.problem.compared import Compared

BLOCKS_A_TURN = 2
"""Two libraries that are timed side by side take turns after so many blocks: the fewest that are mirrored."""
TRIES = 3
"""So often a pass in turns is begun, where processes of the other library die by accident."""


@dataclass(frozen=True)
class Taken:
    """What a library gave of a comparison; `new` where no earlier run had recorded it."""

    library: Library
    answer: PairedPass | Failure
    new: bool = True


@dataclass(frozen=True)
class Turn:
    """What one process of a library gave in one turn."""

    library: Library
    process: int
    answer: PairedPass | Failure


def measure_pair(run: BackendRun, waiting: Sequence[Compared], number: int, phase: Phase) -> None:
    """Measure a pass of either library, each in a fresh process that waits while the other's works."""
    for library in run.libraries(number):
        library.renew(answered(library, library.waiting(waiting)))
    done = 0
    for group in shuffled(waiting, f"{run.settings.seed}/{run.name}/{number}"):
        if run.spent():
            return
        for library in run.libraries(number) if number % 2 else ():
            prepare_ahead(library, library.waiting(group))
        for comparison in run.library.waiting(group):
            _measure_both(run, comparison, number)
            done += 1
            phase.show(f"measure, pair {number + 1}", done, len(waiting))
    run.guard.look(run.name, run.library.worker, "between")


def _measure_both(run: BackendRun, comparison: Compared, number: int) -> None:
    """Measure one comparison with either library, and with the one under test alone where the other can't do it."""
    libraries = [library for library in run.libraries(number) if library.waiting([comparison])]
    if not _measure_with(libraries, run, comparison, number):
        _measure_with([run.library], run, comparison, number)  # The other library failed, and is asked no more.


def _measure_with(libraries: Sequence[Library], run: BackendRun, comparison: Compared, number: int) -> bool:
    """Measure a pass and keep it; return whether the library under test has answered."""
    recorded = [library.known(comparison) for library in libraries]
    taken = known(libraries, recorded) or take_turns(libraries, comparison, run.settings.blocks, number)
    for one in taken:
        keep(run, one.library, comparison, one.answer, one.new)
    return any(one.library is run.library for one in taken)


def known(libraries: Sequence[Library], recorded: Sequence[PairedPass | Failure | None]) -> list[Taken]:
    """Return what an earlier run recorded, in the order of the libraries; nothing unless it is there of all of them."""
    taken = [Taken(library, answer, False) for library, answer in zip(libraries, recorded, strict=True) if answer]
    return taken if len(taken) == len(libraries) else []


def take_turns(libraries: Sequence[Library], comparison: Compared, blocks: int, number: int) -> list[Taken]:
    """Take so many blocks of each library, by mirrored turns; where one fails, its failure alone is returned."""
    for _ in range(TRIES):
        turns = list(_turns(libraries, comparison, blocks, number))
        if isinstance(turns[-1].answer, Failure):
            return [Taken(turns[-1].library, turns[-1].answer)]
        if len({(turn.library.label, turn.process) for turn in turns}) == len(libraries):
            break  # Else one was replaced amid it, and a pass is that of one process.
    return [Taken(library, _joined(library, turns)) for library in libraries]


def _turns(libraries: Sequence[Library], comparison: Compared, blocks: int, number: int) -> Iterator[Turn]:
    """Take the turns one after another, up to the first that fails; who is alone takes all blocks in one turn."""
    each = BLOCKS_A_TURN if len(libraries) > 1 else blocks
    for turn, begin in enumerate(range(0, blocks, each)):
        for library in libraries if turn % 2 == 0 else libraries[::-1]:
            answer = library.measure(comparison, min(each, blocks - begin), number % 2 == 1)
            yield Turn(library, library.started, answer)
            if isinstance(answer, Failure):
                return


def _joined(library: Library, turns: Sequence[Turn]) -> PairedPass:
    """Return a library's turns as one pass."""
    mine = [turn.answer for turn in turns if turn.library is library]
    return PairedPass.joined([answer for answer in mine if isinstance(answer, PairedPass)])
