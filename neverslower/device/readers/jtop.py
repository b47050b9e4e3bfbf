"""Read a Jetson's state from jetson-stats, whose service reads as root what sysfs hides from others: the memory clock.

Sources: rbonghi/jetson_stats 4. `nvpmodel` has an id and a name (jtop/core/nvpmodel.py), `jetson_clocks` is true while
they are fixed (jtop/core/jetson_clocks.py), `gpu` maps names to `{"type", "status", "freq": {"governor", "cur", "min",
"max"}}` (jtop/core/gpu.py), `memory["EMC"]` to `{"cur", "min", "max"}` (jtop/core/memory.py), all in kHz, and
`temperature` to `{"temp", "online"}` in °C (jtop/core/temperature.py). The service's socket is /run/jtop.sock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from neverslower.device.readers.jetson import FIX_CLOCKS
from neverslower.device.readers.sysfs import clock_range
from neverslower.device.state import State, Trouble, Unsound

SOCKET = "run/jtop.sock"


class Jtop:
    """A connection to the service, which sends its readings twice a second; a look reads the last ones."""

    def __init__(self, client: Any) -> None:
        self._client = client
        client.start()

    def look(self) -> State:
        """Return the last readings; an empty state where the service has stopped answering."""
        try:
            return state(self._client)
        except Exception:  # noqa: BLE001  A service that ends, or is of another release, must not end a campaign.
            return State()


@cache
def connected(root: Path = Path("/")) -> Jtop | None:
    """Connect this process once, if the service runs and this Python has its client; else return None."""
    if not (root / SOCKET).exists():
        return None
    try:
        from jtop import jtop  # type: ignore[import-not-found,unused-ignore]

        return Jtop(jtop(interval=0.5))
    except Exception:  # noqa: BLE001  Not installed, no right to the socket, another release: sysfs is read instead.
        return None


def state(client: Any) -> State:
    """Turn the service's answers into a state."""
    gpu: Mapping[str, int] = next((chip["freq"] for chip in dict(client.gpu).values() if chip.get("freq")), {})
    emc = dict(client.memory).get("EMC", {})
    fixed = client.jetson_clocks
    settings = {
        "nvpmodel": f"{client.nvpmodel.id} {client.nvpmodel.name}" if client.nvpmodel else "",
        "jetson_clocks": "" if fixed is None else "on" if fixed else "off",
        "gpu clock": _clock(gpu),
        "emc clock": _clock(emc),
    }
    readings = {"gpu MHz": gpu.get("cur", 0) / 1e3, "emc MHz": emc.get("cur", 0) / 1e3}
    unsound: tuple[Unsound, ...] = ()
    if fixed is not None and not fixed:
        unsound = (Unsound(Trouble.CLOCKS, "clocks are not fixed: jetson_clocks is off", FIX_CLOCKS),)
    return State(
        {name: text for name, text in settings.items() if text},
        {name: value for name, value in readings.items() if value} | dict(_temperatures(client.temperature)),
        unsound,
    )


def _clock(frequency: Mapping[str, int]) -> str:
    return clock_range(frequency.get("min", 0) * 1000, frequency.get("max", 0) * 1000)


def _temperatures(sensors: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, sensor in dict(sensors).items():
        if sensor.get("online"):
            yield f"{name} °C", float(sensor["temp"])
