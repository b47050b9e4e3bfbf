"""Kernels that OpenCL is asked to run, with their work-items and work-groups, and the work that only fills groups."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neverslower.evidence.observation import Plan

Extent = tuple[int, int, int]
_EXTENT = r"(\d+)x(\d+)x(\d+)"
_STEP = re.compile(rf"(.+) global={_EXTENT} local=(?:{_EXTENT}|driver)(?: launched={_EXTENT})?")


@dataclass(frozen=True)
class Enqueue:
    """One OpenCL kernel: its name, its work-items and the work-items of one group, both as (x, y, z).

    `group` is None where the driver chooses it. `whole` are the work-items launched, where these are more than it takes
    to fill the last group of each dimension; else None. A step of a plan is the text of one enqueue.
    """

    name: str
    items: Extent
    group: Extent | None
    whole: Extent | None = None

    def __str__(self) -> str:
        group = _text(self.group) if self.group else "driver"
        launched = f" launched={_text(self.whole)}" if self.whole else ""
        return f"{self.name} global={_text(self.items)} local={group}{launched}"

    @classmethod
    def parse(cls, step: str) -> Enqueue | None:
        """Read what `str` wrote; return None for a step that is not an OpenCL kernel."""
        match = _STEP.fullmatch(step)
        if not match:
            return None
        items, group, whole = (_extent(match.groups()[start : start + 3]) for start in (1, 4, 7))
        return cls(match[1], items, group, whole) if items else None

    @property
    def filled(self) -> Extent:
        """Return the work-items launched, as (x, y, z), counting those that only fill groups."""
        if self.whole:
            return self.whole
        group = self.group or (1, 1, 1)
        # Groups are launched whole: each dimension is filled up to the next multiple.
        x, y, z = (-(-items // size) * size for items, size in zip(self.items, group, strict=True))
        return x, y, z

    @property
    def uneven(self) -> str:
        """Return the dimensions, such as `xy`, in which work-items only fill groups; "" where the driver chooses."""
        return "".join(
            name for name, items, filled in zip("xyz", self.items, self.filled, strict=True) if items != filled
        )

    @property
    def launched(self) -> int:
        """Return the number of work-items launched, counting those that only fill groups."""
        return math.prod(self.filled)

    @property
    def waste(self) -> float:
        """Return the share of the launched work-items that only fills groups, from 0 to 1."""
        return 1 - math.prod(self.items) / self.launched


def _text(extent: Extent) -> str:
    return "x".join(map(str, extent))


def _extent(numbers: Sequence[str | None]) -> Extent | None:
    """Return three numbers that a step holds, or None for a part that it does not have."""
    x, y, z = (int(number or 0) for number in numbers)
    return (x, y, z) if x else None


def enqueues(plan: Plan) -> list[Enqueue]:
    """Return the kernels that a plan enqueues, in order; empty where its steps are not OpenCL kernels."""
    parsed = [Enqueue.parse(step) for step in plan.steps]
    return [enqueue for enqueue in parsed if enqueue is not None]
