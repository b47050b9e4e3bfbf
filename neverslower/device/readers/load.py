"""Read from /proc who else computes on this machine: the share of a core that each process took since the last look.

Sources: utime and stime in /proc/PID/stat are in clock ticks, and /proc/loadavg begins with the average of the last
minute (Linux, Documentation/filesystems/proc.rst; proc(5)). A container sees its own processes only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neverslower.device.readers.sysfs import text
from neverslower.device.state import State, Trouble, Unsound

HEAVY = 0.5
"""The share of a core from which on a process is named."""
SHORTEST = 0.2
"""The fewest seconds between two looks; over less, ticks of 10 ms say nothing."""


@dataclass(frozen=True)
class Process:
    """One process in /proc: its name, its parent, and the seconds that it has computed so far."""

    name: str
    parent: int
    seconds: float


def processes(root: Path = Path("/")) -> dict[int, Process]:
    """Return every visible process by its number."""
    tick = os.sysconf("SC_CLK_TCK")
    seen = {}
    for folder in (root / "proc").glob("[0-9]*"):
        # A process's name may hold spaces and parentheses, so fields are counted from the last parenthesis.
        before, _, rest = text(folder / "stat").rpartition(")")
        fields = rest.split()
        if len(fields) > 12:  # A process that ended meanwhile has an empty file.
            seconds = (int(fields[11]) + int(fields[12])) / tick
            seen[int(folder.name)] = Process(before.partition("(")[2], int(fields[1]), seconds)
    return seen


def family(known: Mapping[int, Process], own: int) -> set[int]:
    """Return a worker's own run: itself, its parent, all that those two started, and the ancestors up to the first."""
    coordinator = known[own].parent if own in known else 0
    descendants = {own} | ({coordinator} - {0, 1})  # In a container the worker may be the first process itself.
    members = set(descendants)
    ancestor = coordinator
    while ancestor in known and ancestor not in (0, 1):
        members.add(ancestor)
        ancestor = known[ancestor].parent
    # Breadth first; members are left out, for a process number that was used again could close a circle.
    while descendants:
        descendants = {number for number, process in known.items() if process.parent in descendants} - members
        members |= descendants
    return members


class Load:
    """Watches the other processes; the first look covers the time since this object was made."""

    def __init__(
        self,
        threads: int = 1,
        root: Path = Path("/"),
        own: int | None = None,
        cores: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads, self._root, self._clock = threads, root, clock
        self._own = os.getpid() if own is None else own
        self._cores = cores or len(os.sched_getaffinity(0))
        self._then, self._known = clock(), processes(root)

    def look(self) -> State:
        """Report the load and the busy processes; grave where they leave the library too few cores."""
        now, known = self._clock(), processes(self._root)
        average = text(self._root / "proc/loadavg").split()
        readings = {"load of the last minute": float(average[0])} if average else {}
        passed = now - self._then
        if passed < SHORTEST:  # It goes on counting from where it was.
            return State(readings=readings)
        mine = family(known, self._own)
        shares = {
            number: (process.seconds - (self._known[number].seconds if number in self._known else 0.0)) / passed
            for number, process in known.items()
            if number not in mine
        }
        self._then, self._known = now, known
        readings["cores that others use"] = round(sum(shares.values()), 3)
        return State(readings=readings, unsound=self._busy(shares, known))

    def _busy(self, shares: Mapping[int, float], known: Mapping[int, Process]) -> tuple[Unsound, ...]:
        """Name processes that take half a core or, if only their crowd is too much, the largest of them."""
        # What others take beyond the cores that the library leaves is taken from the library.
        left = self._cores - self._threads
        crowd = sum(shares.values()) >= left + HEAVY
        ranked = sorted(shares, key=lambda number: -shares[number])
        heavy = [number for number in ranked if shares[number] >= HEAVY] or ranked[:crowd]
        if not heavy:
            return ()
        grave = sum(shares.values()) > left
        named = ", ".join(
            f"{known[number].name} (process {number}, {shares[number]:.0%} of a core)" for number in heavy[:3]
        )
        return (Unsound(Trouble.BUSY, f"busy with {named}", "wait for it to end, or ask whose it is", grave),)
