"""Choose widths by integer programming, with scipy's HiGHS.

One binary variable for each group and width says whether it is chosen; exactly one of each group is. What a layer costs
depends on the widths of two groups, which is a product of two binaries. Each pair of widths (i, j) of a layer gets a
variable z[i, j] ≥ 0 instead, with

    sum over j of z[i, j] = x[i]    and    sum over i of z[i, j] = y[j],

so that z is the product wherever x and y are whole numbers, and the relaxation is as tight as one layer allows (it is
the convex hull of the chosen pairs). A pair without a price has z[i, j] = 0. Costs and importance are then linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neverslower.errors import NeverSlowerError
from neverslower.widths.budget import Resource
from neverslower.widths.problem import Plan, Price, Question

TIME_LIMIT = 60.0
"""Seconds for one solution."""
GAP = 1e-4
"""The gap at which the search for a better plan ends."""
_LIMIT_REACHED, _INFEASIBLE = 1, 2


@dataclass(frozen=True)
class Goal:
    """What is asked for: at most so much of each resource, at least so much importance, and what is the best.

    Without `least` the importance is the largest that there is, else that resource the smallest.
    """

    limits: Mapping[Resource, float] = field(default_factory=dict)
    importance: float = 0.0
    least: Resource | None = None


def solve(question: Question, goal: Goal, seconds: float = TIME_LIMIT) -> Plan | None:
    """Return the best plan that was found in so many seconds, None where none can be.

    Raises NeverSlowerError where scipy is missing, or found nothing in time.
    """
    if not question.choices:
        raise NeverSlowerError("no group of channels may change: there is nothing to choose")
    program = _Program(question)
    program.bound(goal)
    milp, constraint = _scipy()
    result = milp(
        program.objective(goal),
        constraints=constraint(program.matrix(), program.low, program.high),
        integrality=np.array(program.whole),
        bounds=(np.zeros(program.size), np.array(program.most)),
        options={"time_limit": seconds, "mip_rel_gap": GAP},
    )
    if result.status == _INFEASIBLE:
        return None
    if result.x is None:
        why = "the time ended before it found any" if result.status == _LIMIT_REACHED else result.message
        raise NeverSlowerError(f"no plan for the widths: {why}; give it more with --solve-time, or fewer --points")
    widths = program.widths(result.x)
    gap = 0.0 if result.mip_gap is None else float(result.mip_gap)
    return Plan(widths, question.kept_by(widths), question.price_at(widths), gap)


def least(question: Question, resource: Resource, seconds: float = TIME_LIMIT) -> Plan:
    """Return the plan that takes least of one resource. Raises NeverSlowerError."""
    plan = solve(question, Goal(least=resource), seconds)
    assert plan is not None  # The unpruned widths always have a price.
    return plan


def _scipy() -> tuple[Any, Any]:
    """Return scipy's solver, and its class of constraints. Raises NeverSlowerError with the remedy."""
    try:
        from scipy.optimize import LinearConstraint, milp
    except ImportError as error:
        raise NeverSlowerError(
            f"the widths of a model need scipy's milp ({error}); `pip install scipy>=1.11`"
        ) from None
    return milp, LinearConstraint


class _Program:
    """The columns and rows of one integer program."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.whole: list[int] = []
        self.most: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._entries: list[tuple[int, int, float]] = []
        self._columns: dict[tuple[str, int], int] = {}
        self._prices: list[tuple[int, Price]] = []
        self._always = question.fixed
        for choice in question.choices:
            self._choose_one(choice.name, choice.widths)
        for total in question.totals:
            self._choose_one(total.name, total.counts)
            self._round_up(total.name, total.counts, total.groups, total.constant)
        for item in question.items:
            self._add_item(item.groups, item.prices)

    @property
    def size(self) -> int:
        """Return the number of columns."""
        return len(self.whole)

    def bound(self, goal: Goal) -> None:
        """Add the rows of what is asked for."""
        for resource, limit in goal.limits.items():
            entries = [(column, price.of(resource) / limit) for column, price in self._prices]
            self._row(entries, -np.inf, 1 - self._always.of(resource) / limit)
        if goal.importance > 0:
            scale = 1 / goal.importance
            self._row([(column, value * scale) for column, value in self._worth()], 1.0, np.inf)

    def objective(self, goal: Goal) -> Any:
        """Return what is to be the smallest, of shape (columns,)."""
        wanted = np.zeros(self.size)
        if goal.least is None:
            for column, value in self._worth():
                wanted[column] -= value
            return wanted / max(self._question.importance, 1e-300)
        for column, price in self._prices:
            wanted[column] += price.of(goal.least)
        return wanted / max(float(np.abs(wanted).max()), 1e-300)

    def matrix(self) -> Any:
        """Return all rows as a sparse matrix."""
        from scipy.sparse import coo_array

        rows, columns, values = zip(*self._entries, strict=True)
        return coo_array((values, (rows, columns)), shape=(len(self.low), self.size)).tocsr()

    def widths(self, values: Any) -> dict[str, int]:
        """Return the width of each group in a solution."""
        return {
            choice.name: max(choice.widths, key=lambda width: values[self._columns[choice.name, width]])
            for choice in self._question.choices
        }

    def _worth(self) -> Iterable[tuple[int, float]]:
        for choice in self._question.choices:
            for width in choice.widths:
                yield self._columns[choice.name, width], choice.kept[width]

    def _column(self, whole: bool, most: float = 1.0) -> int:
        self.whole.append(int(whole))
        self.most.append(most)
        return self.size - 1

    def _row(self, entries: Iterable[tuple[int, float]], low: float, high: float) -> None:
        self._entries += [(len(self.low), column, value) for column, value in entries]
        self.low.append(low)
        self.high.append(high)

    def _choose_one(self, name: str, widths: Sequence[int]) -> None:
        for width in widths:
            self._columns[name, width] = self._column(whole=True)
        self._row([(self._columns[name, width], 1.0) for width in widths], 1.0, 1.0)

    def _round_up(self, name: str, counts: Sequence[int], groups: Sequence[str], constant: int) -> None:
        """Let the chosen count be the smallest that the widths of the groups together do not exceed."""
        widths = [
            (self._columns[choice.name, width], float(groups.count(choice.name) * width))
            for choice in self._question.choices
            for width in choice.widths
            if choice.name in groups
        ]
        above = [0, *(count + 1 for count in counts[:-1])]
        chosen = [self._columns[name, count] for count in counts]
        most = [*widths, *((column, -float(count)) for column, count in zip(chosen, counts, strict=True))]
        least = [*widths, *((column, -float(count)) for column, count in zip(chosen, above, strict=True))]
        self._row(most, -np.inf, -float(constant))
        self._row(least, -float(constant), np.inf)

    def _add_item(self, groups: Sequence[str], prices: Mapping[tuple[int, ...], Price]) -> None:
        if not groups:
            self._always += prices[()]
        elif len(groups) == 1:
            for (name, width), column in self._columns.items():
                if name != groups[0]:
                    continue
                if (price := prices.get((width,))) is None:
                    self.most[column] = 0.0
                else:
                    self._prices.append((column, price))
        else:
            self._add_pairs(groups[0], groups[1], prices)

    def _add_pairs(self, first: str, second: str, prices: Mapping[tuple[int, ...], Price]) -> None:
        """Add a product of two choices, see above."""
        sides = [[(width, column) for (name, width), column in self._columns.items() if name == group]
                 for group in (first, second)]  # fmt: skip
        columns: dict[tuple[int, int], int] = {}
        for one, _ in sides[0]:
            for other, _ in sides[1]:
                if (price := prices.get((one, other))) is not None:
                    columns[one, other] = self._column(whole=False)
                    self._prices.append((columns[one, other], price))
        for side, widths in enumerate(sides):
            for width, chosen in widths:
                entries = [(column, 1.0) for pair, column in columns.items() if pair[side] == width]
                self._row([*entries, (chosen, -1.0)], 0.0, 0.0)
