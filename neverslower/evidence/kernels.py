"""What a GPU was asked to run: kernels with grid and block, their kind and generation, read from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from neverslower.evidence.observation import Plan

Extent = tuple[int, int, int]
_STEP = re.compile(r"(.+) grid=(\d+)x(\d+)x(\d+) block=(\d+)x(\d+)x(\d+)")
_HELPER = re.compile(
    r"nchwToNhwc|nhwcToNchw|addPadding|removePadding|tensorTransform"
    r"|convertTensor|transpose|elementwise|\bcopy|Memset|Memcpy|vectorized_fold|computeOffsets|init_device_workspace",
    re.IGNORECASE,
)
"""Kernels that move or rearrange data around the one that multiplies: cuDNN's and torch's own names for them."""


@dataclass(frozen=True)
class Kernel:
    """One launch: the kernel's name, blocks in the grid and threads in a block, each (x, y, z)."""

    name: str
    grid: Extent = (1, 1, 1)
    block: Extent = (1, 1, 1)

    def __str__(self) -> str:
        grid, block = ("x".join(map(str, extent)) for extent in (self.grid, self.block))
        return f"{self.name} grid={grid} block={block}"

    @classmethod
    def parse(cls, step: str) -> Kernel | None:
        """The inverse of `str`; None for a step that is no kernel."""
        match = _STEP.fullmatch(step)
        if not match:
            return None
        name, *numbers = match.groups()
        x, y, z, *block = map(int, numbers)
        return cls(name, (x, y, z), (block[0], block[1], block[2]))

    @property
    def helper(self) -> bool:
        """Whether it only moves or rearranges data."""
        return bool(_HELPER.search(self.name))

    @property
    def tiles(self) -> int:
        """Blocks in the grid: the pieces that the work was cut into."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def generation(self) -> str:
        """The architecture that the kernel was written for, `sm90`, as its name says; empty where it does not."""
        match = re.search(r"(?<![a-z0-9])sm(\d+)", self.name)
        return f"sm{match[1]}" if match else ""

    @property
    def short(self) -> str:
        """The name without template arguments and namespaces, for people; CUTLASS says in the former what it is."""
        plain, _, arguments = self.name.removeprefix("void ").partition("<")
        short = plain.rsplit("::", 1)[-1].strip()
        if short in ("Kernel", "Kernel2", "device_kernel"):
            short = re.split(r"[,<>]", arguments)[0].rsplit("::", 1)[-1].strip() or short
        return short or self.name


def kernels(plan: Plan) -> list[Kernel]:
    """A plan's launches, in order; empty where its steps are not kernels or were not looked at."""
    parsed = [Kernel.parse(step) for step in plan.steps]
    return [kernel for kernel in parsed if kernel is not None]


def main_kernels(launched: Sequence[Kernel]) -> list[Kernel]:
    """Those that compute; all of them where every one looks like a helper."""
    return [kernel for kernel in launched if not kernel.helper] or list(launched)
