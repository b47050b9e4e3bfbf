"""The state of a discrete NVIDIA GPU, through nvidia-ml-py: what must stand still, and whether it was throttled.

NVML's names and numbers are those of nvml.h (NVIDIA, NVML API Reference, "Clocks Event Reasons"). What a driver or a
board does not answer is left out. Jetson boards have no such answers; see backends/state/jetson.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SLOWDOWNS: Mapping[int, str] = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal slowdown (software)",
    0x0000000000000040: "thermal slowdown (hardware)",
    0x0000000000000080: "power brake",
}
"""Reasons for which a GPU runs slower than asked; idling and clocks that somebody set are none."""
SET_BY_SOMEBODY = 0x2
"""The reason of clocks that were asked for: low, but steady."""
LOWEST_CLOCK = 0.75
"""Below this share of the default clock a sample tells of the clock, not of the library (the rule of nvbench)."""


@dataclass(frozen=True)
class Neighbour:
    """Another process on the GPU: its number, and the bytes that it keeps there where NVML tells."""

    process: int
    bytes: int | None

    def __str__(self) -> str:
        kept = "" if self.bytes is None else f" ({self.bytes / 1e6:,.0f} MB of its memory)"
        return f"process {self.process}{kept}"


class Nvml:
    """One GPU, by its identifier, else by its index; raises NVMLError where NVML does not know it.

    `library` is nvidia-ml-py's module, passed in so that recorded answers can stand in for it.
    """

    def __init__(self, library: Any, identifier: str, index: int) -> None:
        self._library = library
        library.nvmlInit()
        try:
            self._device = library.nvmlDeviceGetHandleByUUID(identifier)
        except library.NVMLError:  # A part of a GPU (MIG) has an identifier of its own kind.
            self._device = library.nvmlDeviceGetHandleByIndex(index)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """An answer, or None where this driver or board has none."""
        asked: Callable[..., Any] | None = getattr(self._library, function, None)
        if asked is None:
            return None
        try:
            return asked(self._device, *arguments)
        except self._library.NVMLError:
            return None

    def hardware(self) -> dict[str, str]:
        """Memory in GiB, as far as NVML knows it."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return {} if memory is None else {"memory": f"{memory.total / 2**30:.0f} GiB"}

    def state(self) -> dict[str, str]:
        """Power limit, ECC, MIG, and the clock that applications are given: what decides speed and stands still."""
        power = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        ecc, mig = self._ask("nvmlDeviceGetEccMode"), self._ask("nvmlDeviceGetMigMode")
        clock = self._ask("nvmlDeviceGetApplicationsClock", self._library.NVML_CLOCK_SM)
        memory_clock = self._ask("nvmlDeviceGetMaxClockInfo", self._library.NVML_CLOCK_MEM)
        found = {
            "power limit": None if power is None else f"{power / 1000:.0f} W",
            "ecc": None if ecc is None else _switch(ecc[0]),
            "mig": None if mig is None else _switch(mig[0]),
            "sm clock asked for": None if clock is None else f"{clock} MHz",
            "memory clock": None if memory_clock is None else f"{memory_clock} MHz",
        }
        return {name: text for name, text in found.items() if text is not None}

    def driver(self) -> str:
        """The driver's version."""
        return str(self._library.nvmlSystemGetDriverVersion())

    def neighbours(self) -> list[Neighbour]:
        """Processes that compute on this GPU now."""
        return [
            Neighbour(one.pid, one.usedGpuMemory) for one in self._ask("nvmlDeviceGetComputeRunningProcesses") or ()
        ]

    @property
    def blind(self) -> bool:
        """Whether neither reasons for a lower clock nor the clock itself are told, as on some boards and in MIG."""
        return self._reasons() is None and self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM) is None

    def _reasons(self) -> int | None:
        """Bits that say why the clock is what it is; older drivers have the function by another name."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if (found := self._ask(name)) is not None:
                return int(found)
        return None

    def slowdowns(self) -> list[str]:
        """Why the GPU is slower than it should be at this moment; empty when it is not."""
        reasons = self._reasons() or 0
        found = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
        clock = self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM)
        default = self._ask("nvmlDeviceGetDefaultApplicationsClock", self._library.NVML_CLOCK_SM)
        if clock is not None and default and clock < LOWEST_CLOCK * default and not reasons & SET_BY_SOMEBODY:
            found.append(f"clock at {clock} of {default} MHz")
        return found


def _switch(value: int) -> str:
    return "on" if value else "off"
