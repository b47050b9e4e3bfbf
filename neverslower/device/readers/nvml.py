"""Read a discrete NVIDIA GPU through nvidia-ml-py: the settings that must stay, and whether it was throttled.

NVML's names and numbers are those of nvml.h (NVIDIA, NVML API Reference, "Clocks Event Reasons"). What a driver or a
board does not answer is left out. Jetson boards answer nothing here; see neverslower/device/readers/jetson.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neverslower.device.state import State, Trouble, Unsound

SLOWDOWNS: Mapping[int, str] = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal slowdown (software)",
    0x0000000000000040: "thermal slowdown (hardware)",
    0x0000000000000080: "power brake",
}
"""Reasons why a GPU runs slower than asked; an idle GPU and clocks that somebody set are not among them."""
SET_BY_SOMEBODY = 0x2
"""The reason that stands for clocks that somebody asked for: low, but steady."""
LOWEST_CLOCK = 0.75
"""Below this share of the default clock a sample says more about the clock than about the library (nvbench's rule)."""
POWER_CAP = 0x4
"""A reason that comes and goes with the work, so blocks that it disturbed are dropped one by one."""
HEAVY = 10
"""The per cent of the GPU's time from which on another process is heavy."""
MARGIN = 10
"""A GPU that starts within this many °C of its slowdown temperature will reach it."""
SLOWDOWN_THRESHOLD, TEMPERATURE_GPU = 1, 0
"""NVML_TEMPERATURE_THRESHOLD_SLOWDOWN and NVML_TEMPERATURE_GPU."""


@dataclass(frozen=True)
class Neighbour:
    """Another process on the GPU: its number, and the bytes that it holds there where NVML says so."""

    process: int
    bytes: int | None

    def __str__(self) -> str:
        kept = "" if self.bytes is None else f" ({self.bytes / 1e6:,.0f} MB of its memory)"
        return f"process {self.process}{kept}"


class Nvml:
    """One GPU, found by its identifier, else by its index. Raises NVMLError where NVML does not know it.

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
        """Return an answer, or None where this driver or board has none."""
        asked: Callable[..., Any] | None = getattr(self._library, function, None)
        if asked is None:
            return None
        try:
            return asked(self._device, *arguments)
        except self._library.NVMLError:
            return None

    def hardware(self) -> dict[str, str]:
        """Return the memory in GiB, if NVML knows it."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return {} if memory is None else {"memory": f"{memory.total / 2**30:.0f} GiB"}

    def settings(self) -> dict[str, str]:
        """Return the settings that decide speed: power limit, ECC, MIG, and the clocks that applications are given."""
        power = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        ecc, mig = self._ask("nvmlDeviceGetEccMode"), self._ask("nvmlDeviceGetMigMode")
        clock = self._ask("nvmlDeviceGetApplicationsClock", self._library.NVML_CLOCK_SM)
        memory_clock = self._ask("nvmlDeviceGetMaxClockInfo", self._library.NVML_CLOCK_MEM)
        settings = {
            "power limit": None if power is None else f"{power / 1000:.0f} W",
            "ecc": None if ecc is None else _switch(ecc[0]),
            "mig": None if mig is None else _switch(mig[0]),
            "sm clock asked for": None if clock is None else f"{clock} MHz",
            "memory clock": None if memory_clock is None else f"{memory_clock} MHz",
        }
        return {name: text for name, text in settings.items() if text is not None}

    def driver(self) -> str:
        """Return the driver's version."""
        return str(self._library.nvmlSystemGetDriverVersion())

    def neighbours(self) -> list[Neighbour]:
        """List the processes that compute on this GPU now."""
        return [
            Neighbour(process.pid, process.usedGpuMemory)
            for process in self._ask("nvmlDeviceGetComputeRunningProcesses") or ()
        ]

    @property
    def blind(self) -> bool:
        """Return whether NVML gives neither the clock nor reasons for a lower one, as on some boards and in MIG."""
        return self._reasons() is None and self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM) is None

    def _reasons(self) -> int | None:
        """Return the bits that say why the clock is what it is; older drivers give the function another name."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if (bits := self._ask(name)) is not None:
                return int(bits)
        return None

    def slowdowns(self) -> list[str]:
        """List why the GPU is slower than it should be at this moment; empty when it is not."""
        reasons = self._reasons() or 0
        slowdowns = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
        clock = self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM)
        # A clock may be low without a reason being given; one that somebody set low is steady, and so no slowdown.
        default = self._ask("nvmlDeviceGetDefaultApplicationsClock", self._library.NVML_CLOCK_SM)
        if clock is not None and default and clock < LOWEST_CLOCK * default and not reasons & SET_BY_SOMEBODY:
            slowdowns.append(f"clock at {clock} of {default} MHz")
        return slowdowns

    def look(self, own: Collection[int]) -> State:
        """Read settings, readings and troubles; `own` are the processes that do not count as others.

        An idle GPU lowers its clock, so a low clock proves nothing here.
        """
        clock, memory = (
            self._ask("nvmlDeviceGetClockInfo", kind)
            for kind in (self._library.NVML_CLOCK_SM, self._library.NVML_CLOCK_MEM)
        )
        power = self._ask("nvmlDeviceGetPowerUsage")
        degrees = self._ask("nvmlDeviceGetTemperature", TEMPERATURE_GPU)
        readings = {
            "sm MHz": clock,
            "memory MHz": memory,
            "gpu °C": degrees,
            "gpu W": None if power is None else power / 1000,
        }
        known = {name: float(value) for name, value in readings.items() if value is not None}
        return State(self.settings(), known, (*self._slowed(), *self._hot(degrees), *self._shared(own)))

    def _slowed(self) -> Iterator[Unsound]:
        reasons = self._reasons() or 0
        for bit, text in SLOWDOWNS.items():
            if reasons & bit:
                remedy = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER says more; let it cool"
                yield Unsound(Trouble.THROTTLED, f"GPU throttled: {text}", remedy, grave=bit != POWER_CAP)

    def _hot(self, degrees: int | None) -> Iterator[Unsound]:
        limit = self._ask("nvmlDeviceGetTemperatureThreshold", SLOWDOWN_THRESHOLD)
        if degrees is not None and limit and degrees >= limit - MARGIN:
            text = f"the GPU is at {degrees} °C, and is slowed down at {limit} °C"
            yield Unsound(Trouble.HOT, text, "let it cool, and check the airflow around it")

    def _shared(self, own: Collection[int]) -> Iterator[Unsound]:
        """Report other processes that NVML saw computing on the GPU just now."""
        used: Counter[int] = Counter()
        for sample in self._ask("nvmlDeviceGetProcessUtilization", 0) or ():
            used[sample.pid] = max(used[sample.pid], sample.smUtil)
        # A desktop or an idle notebook holds memory all day and disturbs nobody, so presence alone is not reported.
        for neighbour in self.neighbours():
            if neighbour.process not in own and used[neighbour.process] >= HEAVY:
                text = f"the GPU is busy with {neighbour}, {used[neighbour.process]} % of its time"
                yield Unsound(Trouble.BUSY, text, "wait for it to end, or ask whose it is")


def _switch(value: int) -> str:
    return "on" if value else "off"
