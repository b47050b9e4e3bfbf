"""Kernels that a GPU was asked to run, with grid and block, and what their names say about kind and generation."""

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
"""Kernels that move or rearrange data around the kernel that multiplies, by cuDNN's and torch's names for them."""


@dataclass(frozen=True)
class Kernel:
    """One launch: the kernel's name, the blocks in its grid and the threads in a block, both as (x, y, z)."""

    name: str
    grid: Extent = (1, 1, 1)
    block: Extent = (1, 1, 1)

    def __str__(self) -> str:
        grid, block = ("x".join(map(str, extent)) for extent in (self.grid, self.block))
        return f"{self.name} grid={grid} block={block}"

    @classmethod
    def parse(cls, step: str) -> Kernel | None:
        """Read what `str` wrote; return None for a step that is not a kernel."""
        match = _STEP.fullmatch(step)
        if not match:
            return None
        name, *numbers = match.groups()
        x, y, z, *block = map(int, numbers)
        return cls(name, (x, y, z), (block[0], block[1], block[2]))

    @property
    def helper(self) -> bool:
        """Return whether the kernel only moves or rearranges data."""
        return bool(_HELPER.search(self.name))

    @property
    def tiles(self) -> int:
        """Return the number of blocks in the grid: the pieces that the work was cut into."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def generation(self) -> str:
        """Return the architecture that the name says the kernel was written for, such as `sm90`, or an empty string."""
        # Not after a letter or digit: other words end in "sm" too.
        match = re.search(r"(?<![a-z0-9])sm(\d+)", self.name)
        return f"sm{match[1]}" if match else ""

    @property
    def short(self) -> str:
        """Return the name for people, without namespaces and template arguments.

        CUTLASS calls every kernel `Kernel` and says what it is in the first template argument, which is then used.
        """
        plain, _, arguments = self.name.removeprefix("void ").partition("<")
        short = plain.rsplit("::", 1)[-1].strip()
        if short in ("Kernel", "Kernel2", "device_kernel"):
            short = re.split(r"[,<>]", arguments)[0].rsplit("::", 1)[-1].strip() or short
        return short or self.name


def kernels(plan: Plan) -> list[Kernel]:
    """Return a plan's launches in order; empty where its steps are not kernels or were not recorded."""
    parsed = [Kernel.parse(step) for step in plan.steps]
    return [kernel for kernel in parsed if kernel is not None]


def main_kernels(launched: Sequence[Kernel]) -> list[Kernel]:
    """Return the kernels that compute; all of them where every name looks like a helper's."""
    return [kernel for kernel in launched if not kernel.helper] or list(launched)
