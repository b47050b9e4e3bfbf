"""Read temperatures, and whether the machine is being slowed down, from sysfs files that anyone may read.

Sources: a thermal zone has a `type`, a `temp` in m°C, and trip points, of which a `passive` one is where clocks are
lowered; a cooling device that acts has a `cur_state` above 0, and is named after what it lowers: `cpufreq-cpu0`,
`thermal-cpufreq-0`, `devfreq-fb000000.gpu`, `Processor` (Linux, Documentation/driver-api/thermal/sysfs-api.rst,
drivers/thermal/); on an Orin `gpu-throttle-alert` and the like, as their users report. Events are counted since boot:
`core_throttle_count` of x86 processors (drivers/thermal/intel/therm_throt.c), and on a Jetson `oc1_event_cnt` (low
voltage), `oc2` (average current), `oc3` (peak current) of the hwmon device soctherm_oc (NVIDIA, Jetson Linux Developer
Guide, "Platform Power and Performance"; the driver tegra23x-oc-event).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from neverslower.device.readers.sysfs import number, text
from neverslower.device.state import State, Trouble, Unsound

MARGIN = 5.0
"""A machine that starts within this many °C of the point where clocks are lowered will reach it."""
IMPLAUSIBLE = 40.0
"""A passive trip point below this many °C is one that nobody set."""
_LOWERS_CLOCKS = re.compile(r"cpufreq|devfreq|throttle|^Processor$", re.IGNORECASE)
_COUNTERS = (
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    "sys/class/hwmon/hwmon*/oc*_event_cnt",
)
COOL = "let it cool, and check the fan and the airflow around it"
POWER = "a stronger power supply, or a power mode that it can feed (sudo nvpmodel -m N)"


class Thermal:
    """Watches temperatures and throttling; counts events since this object was made, then from look to look."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._counters = [path for pattern in _COUNTERS for path in sorted(root.glob(pattern))]
        self._counted = self._count()

    def look(self) -> State:
        """Read each zone's temperature, and report what is hot and what lowers clocks."""
        readings, unsound = {}, []
        for folder in sorted((self._root / "sys/class/thermal").glob("thermal_zone*")):
            degrees = _degrees(folder / "temp")
            if degrees is not None:
                name = text(folder / "type") or folder.name
                readings[f"{name} °C"] = degrees
                # The lowest trip point acts first; the others only slow down more.
                limit = min(_passive(folder), default=None)
                if limit is not None and degrees >= limit - MARGIN:
                    why = f"{name} is at {degrees:.0f} °C, and clocks are lowered at {limit:.0f} °C"
                    unsound.append(Unsound(Trouble.HOT, why, COOL))
        return State(readings=readings, unsound=(*unsound, *self._throttled()))

    def _throttled(self) -> Iterator[Unsound]:
        for folder in sorted((self._root / "sys/class/thermal").glob("cooling_device*")):
            name = text(folder / "type")
            if _LOWERS_CLOCKS.search(name) and number(folder / "cur_state"):
                yield Unsound(Trouble.THROTTLED, f"throttled: {name} is at work", COOL)
        # Cooling devices show this moment only; counters also show what came and went between two looks.
        before, self._counted = self._counted, self._count()
        for name, events in (self._counted - before).items():
            remedy = POWER if name.startswith("oc") else COOL
            yield Unsound(Trouble.THROTTLED, f"throttled: {name} counted {events} more", remedy)

    def _count(self) -> Counter[str]:
        """Count events by the counter's name, summed over all cores."""
        events: Counter[str] = Counter()
        for path in self._counters:
            events[path.name] += number(path)
        return events


def _degrees(path: Path) -> float | None:
    """Return a temperature in °C from a file in m°C; None where the sensor is off, as Tegra's are with their parts."""
    millidegrees = text(path)
    return int(millidegrees) / 1000 if re.fullmatch(r"-?\d+", millidegrees) and int(millidegrees) > -100_000 else None


def _passive(zone: Path) -> Iterator[float]:
    """Yield the temperatures of a zone, in °C, at which clocks are lowered."""
    for path in zone.glob("trip_point_*_type"):
        degrees = _degrees(path.with_name(path.name.replace("_type", "_temp")))
        if text(path) == "passive" and degrees is not None and degrees >= IMPLAUSIBLE:
            yield degrees
