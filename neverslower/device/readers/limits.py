"""Read what this process may use of its machine: cores and memory, which a container has less of than its host.

Sources: `memory.max` and `cpu.max` of control groups, version 2, each a number or `max`, the latter followed by a
period in the same unit (Linux, Documentation/admin-guide/cgroup-v2.rst). A group's limits hold for all groups below
it, so the least of a process's group and of those above it counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from neverslower.device.readers.sysfs import text


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy, at least 1: by its affinity and by its groups' quotas."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [int(quota) / int(period) for quota, period in _limits(root, "cpu.max", 2) if int(period)]
    return max(1, int(min([float(allowed), *quotas])))


def memory(root: Path = Path("/")) -> int:
    """Return how many bytes of memory this process may have: those of the machine, or the least limit of its groups."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(int(limit) for (limit,) in _limits(root, "memory.max", 1))])


def _limits(root: Path, name: str, words: int) -> Iterator[list[str]]:
    """Yield the words of a limit's file in each group of this process, up to the root, where they are numbers."""
    for group in _groups(root):
        found = text(group / name).split()
        if len(found) == words and all(word.isdecimal() for word in found):
            yield found


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folder of this process's group, and of each one above it; in a container the root is its own group."""
    top = root / "sys/fs/cgroup"
    own = next((line[3:] for line in text(root / "proc/self/cgroup").splitlines() if line.startswith("0::/")), "/")
    parts = [part for part in own.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth])
