"""Draw a staircase from few timings: plans and dispatch change where the curve does, and asking for them is cheap.

Counts that are launched alike (one plan, the same kernels, the same grids of those that compute) form a branch, whose
counts need not be neighbours: multiples of 8 may be one, the others between them another. Branches of the same kernels
are a family, whatever their grids. Along a branch the cost is taken to be a straight line in pieces:

1. A short branch is timed at its largest count, which stands for all; a longer one at both ends.
2. The two largest branches of each family are audited: long ones in the middle, others at both ends. Where an audit
   lies off the line, or the line is steep, both halves are treated in the same way, until the piece that hides the step
   is two neighbours of the branch; and all branches of the family are audited.
3. Where an audit anywhere in the layer was off by a step, all branches of the layer are audited, at three counts each.
4. A branch in which more pieces fail than halving needs for one step is unsteady: all of it is timed.

Nothing here is a verdict, and what is drawn was not measured. Functions of what is known: the same costs ask for the
same counts, so that an interrupted map goes on where it was.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neverslower.evidence.kernels import kernels, main_kernels
from neverslower.evidence.observation import Plan
from neverslower.maps.shape import STEP, Costs

OFF = math.log(1.025)
"""By how much a cost may lie off the line, as a log ratio: half of the least step that is an edge."""
STEEP = math.log(1.10)
"""A line that rises or falls by so much is halved even where its audits fit: an edge may lie there by chance."""
SHORT, SHORTEST = 8, 4
"""Counts of a branch up to which one stands for all, and up to which that is never audited alone."""
AUDITED = 2
"""So many branches of each family, the largest ones, are audited in any case."""
PROBES, MORE_PROBES = 1, 3
"""Audits of a branch between its ends: at first, and where an audit of the layer has shown a step."""
Branch = list[int]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The cost of every count, NaN where it is not known yet, and the positions that are to be timed next.

    Where none is `missing` the curve is complete.
    """

    costs: Costs
    missing: tuple[int, ...]


def draw(counts: Sequence[int], plans: Sequence[Plan], known: Mapping[int, float]) -> Drawn:
    """Return a curve as far as the known costs, by position, draw it, and what is to be timed to draw the rest."""
    drawing = _Drawing(counts, known)
    alone = [[place] for place in range(len(counts))]
    families = families_of(plans) if len(counts) > SHORT else [alone]  # Of so few counts all are timed.
    for family in families:
        drawing.draw(family)
    if not drawing.missing and drawing.surprised:
        for family in families:
            drawing.audit_all(family)
    return Drawn(drawing.finished(), tuple(sorted(drawing.missing)))


def families_of(plans: Sequence[Plan]) -> list[list[Branch]]:
    """Return the branches of each family of plans, each a list of positions in ascending order."""
    families: dict[Hashable, dict[Hashable, Branch]] = {}
    for position, plan in enumerate(plans):
        branches = families.setdefault(_names(plan), {})
        branches.setdefault(_signature(plan), []).append(position)
    return [list(branches.values()) for branches in families.values()]


def _names(plan: Plan) -> Hashable:
    """Return what the plans of a family share: the plan's engine and its kernels by name."""
    return plan.name.partition(":")[0], tuple(kernel.name for kernel in kernels(plan))


def _signature(plan: Plan) -> Hashable:
    """Return what counts that are launched alike share: helpers by name, for their grids follow every channel.

    Of a plan whose steps are no kernels it is the name and the steps.
    """
    launched = kernels(plan)
    if not launched:
        return plan.name, plan.steps
    computing = main_kernels(launched)
    helpers = tuple(kernel.name for kernel in launched if kernel not in computing)
    return tuple(map(str, computing)), helpers


def _order(family: Iterable[Branch]) -> list[Branch]:
    """Return the branches of a family, the largest first, and of these those of the largest counts."""
    return sorted(family, key=lambda branch: (-len(branch), -branch[-1]))


class _Drawing:
    """Draws one curve through the known costs, and keeps which ones are missing for the rest.

    `surprised` says that an audit was off by a step.
    """

    def __init__(self, counts: Sequence[int], known: Mapping[int, float]) -> None:
        self._counts, self._known = counts, known
        self._costs = np.full(len(counts), np.nan)
        self.missing: set[int] = set()
        self.surprised = False

    def finished(self) -> Costs:
        """Return the curve; what was timed keeps its own cost."""
        for position, cost in self._known.items():
            self._costs[position] = cost
        return self._costs

    def draw(self, family: Sequence[Branch]) -> None:
        """Draw the branches of a family, and audit the largest; all of them where one of these is not straight."""
        ordered = _order(family)
        straight = [self._audited(branch, alone=len(family) == 1) for branch in ordered[:AUDITED]]
        for branch in ordered[AUDITED:]:
            if not all(straight):
                self._branch(branch, PROBES)
            elif len(branch) > SHORT:
                self._branch(branch, 0)
            else:
                self._flat(branch)

    def audit_all(self, family: Sequence[Branch]) -> None:
        """Draw the branches of a family again with more audits."""
        for branch in family:
            self._branch(branch, MORE_PROBES if len(branch) > SHORT else PROBES)

    def _audited(self, branch: Branch, alone: bool) -> bool:
        """Draw a branch with audits, and return whether it is straight as far as is known."""
        if len(branch) > SHORT:
            return self._branch(branch, PROBES)
        if len(branch) > SHORTEST and not alone:
            return self._branch(branch, 0)
        self._flat(branch)
        return True

    def _flat(self, branch: Branch) -> None:
        """Let the largest count stand for all."""
        if logs := self._logs(branch[-1:]):
            self._costs[branch] = math.exp(logs[0])

    def _branch(self, branch: Branch, probes: int) -> bool:
        """Draw a branch in pieces, all of it timed where it is unsteady; return whether one piece does."""
        failed = self._piece(branch, probes)
        if failed > math.log2(len(branch)):
            self._logs(branch)
        return not failed

    def _piece(self, piece: Branch, probes: int) -> int:
        """Draw a line from the first to the last; where an audit lies off it, one through each part.

        Return how many pieces failed, as far as is known.
        """
        steps = len(piece) - 1
        places = sorted({round(steps * number / (probes + 1)) for number in range(1, probes + 1)} - {0, steps})
        logs = self._logs([piece[0], *(piece[place] for place in places), piece[-1]])
        if logs is None:
            return 0
        kept = [self._counts[position] for position in piece]
        line = np.interp(kept, [kept[0], kept[-1]], [logs[0], logs[-1]])
        self._costs[piece] = np.exp(line)
        off = [abs(logs[number] - line[place]) for number, place in enumerate(places, start=1)]
        rise = abs(logs[-1] - logs[0])
        if not probes and len(piece) <= SHORT:  # Of a short branch the ends are the audit.
            off = [rise]
        self.surprised |= any(each > STEP for each in off)
        fails = any(each > OFF for each in off)
        if steps <= 1 or not (fails or rise > STEEP):
            return int(fails)
        cuts = [0, *(places or [steps // 2]), steps]
        parts = [piece[first : last + 1] for first, last in itertools.pairwise(cuts)]
        return int(fails) + sum(self._piece(part, PROBES) for part in parts)

    def _logs(self, positions: Sequence[int]) -> list[float] | None:
        """Return the log costs at some positions, None where one is missing, which is asked for."""
        lacking = [position for position in positions if position not in self._known]
        self.missing.update(lacking)
        return None if lacking else [math.log(self._known[position]) for position in positions]
