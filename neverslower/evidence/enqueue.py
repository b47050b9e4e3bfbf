"""What OpenCL is asked to run: kernels with their work-items and groups, and what of them only fills groups."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from neverslower.evidence.observation import Plan

Extent = tuple[int, int, int]
_STEP = re.compile(r"(.+) global=(\d+)x(\d+)x(\d+) local=(?:(\d+)x(\d+)x(\d+)|driver)")


@dataclass(frozen=True)
class Enqueue:
    """One kernel of OpenCL: its name, work-items and those in a group, each (x, y, z); None is the driver's choice.

    A step of a plan is the text of one.
    """

    name: str
    items: Extent
    group: Extent | None

    def __str__(self) -> str:
        group = "x".join(map(str, self.group)) if self.group else "driver"
        return f"{self.name} global={'x'.join(map(str, self.items))} local={group}"

    @classmethod
    def parse(cls, step: str) -> Enqueue | None:
        """The inverse of `str`; None for a step that is no kernel of OpenCL."""
        match = _STEP.fullmatch(step)
        if not match:
            return None
        x, y, z, *group = (int(number) if number else 0 for number in match.groups()[1:])
        return cls(match[1], (x, y, z), (group[0], group[1], group[2]) if group[0] else None)

    @property
    def uneven(self) -> str:
        """The dimensions, such as `xy`, in which groups do not divide the work-items; none where the driver groups."""
        group = self.group or (1, 1, 1)
        return "".join(name for name, items, size in zip("xyz", self.items, group, strict=True) if items % size)

    @property
    def launched(self) -> int:
        """Work-items, with those that fill the last group of each dimension."""
        group = self.group or (1, 1, 1)
        return math.prod(-(-items // size) * size for items, size in zip(self.items, group, strict=True))

    @property
    def waste(self) -> float:
        """The share of the launched work-items that only fills groups."""
        return 1 - math.prod(self.items) / self.launched


def enqueues(plan: Plan) -> list[Enqueue]:
    """What a plan enqueues, in order; empty where its steps are none of OpenCL."""
    parsed = [Enqueue.parse(step) for step in plan.steps]
    return [enqueue for enqueue in parsed if enqueue is not None]
