"""Kernels that OpenCL is asked to run, with their work-items and work-groups, and the work that only fills groups."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from neverslower.evidence.observation import Plan

Extent = tuple[int, int, int]
_STEP = re.compile(r"(.+) global=(\d+)x(\d+)x(\d+) local=(?:(\d+)x(\d+)x(\d+)|driver)")


@dataclass(frozen=True)
class Enqueue:
    """One OpenCL kernel: its name, its work-items and the work-items of one group, both as (x, y, z).

    `group` is None where the driver chooses it. A step of a plan is the text of one enqueue.
    """

    name: str
    items: Extent
    group: Extent | None

    def __str__(self) -> str:
        group = "x".join(map(str, self.group)) if self.group else "driver"
        return f"{self.name} global={'x'.join(map(str, self.items))} local={group}"

    @classmethod
    def parse(cls, step: str) -> Enqueue | None:
        """Read what `str` wrote; return None for a step that is not an OpenCL kernel."""
        match = _STEP.fullmatch(step)
        if not match:
            return None
        x, y, z, *group = (int(number) if number else 0 for number in match.groups()[1:])
        return cls(match[1], (x, y, z), (group[0], group[1], group[2]) if group[0] else None)

    @property
    def uneven(self) -> str:
        """Return the dimensions, such as `xy`, that groups do not divide evenly; "" where the driver chooses groups."""
        group = self.group or (1, 1, 1)
        return "".join(name for name, items, size in zip("xyz", self.items, group, strict=True) if items % size)

    @property
    def launched(self) -> int:
        """Return the number of work-items launched, counting those that only fill the last group of a dimension."""
        group = self.group or (1, 1, 1)
        # Groups are launched whole: each dimension is filled up to the next multiple.
        return math.prod(-(-items // size) * size for items, size in zip(self.items, group, strict=True))

    @property
    def waste(self) -> float:
        """Return the share of the launched work-items that only fills groups, from 0 to 1."""
        return 1 - math.prod(self.items) / self.launched


def enqueues(plan: Plan) -> list[Enqueue]:
    """Return the kernels that a plan enqueues, in order; empty where its steps are not OpenCL kernels."""
    parsed = [Enqueue.parse(step) for step in plan.steps]
    return [enqueue for enqueue in parsed if enqueue is not None]
