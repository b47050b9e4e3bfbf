"""Look at the machine that a worker runs on, with every reader that finds something there; nothing is ever changed."""

from __future__ import annotations

from pathlib import Path

from neverslower.device.readers import arm, cpu, jetson, jtop, mali
from neverslower.device.readers.load import Load
from neverslower.device.readers.thermal import Thermal
from neverslower.device.state import State, Trouble


def settings(root: Path = Path("/")) -> dict[str, str]:
    """Return the settings that join every time's fingerprint on a Jetson, the memory clock if known; {} elsewhere."""
    if not jetson.is_jetson(root):
        return {}
    service = jtop.connected(root)
    return arm.settings(root) | jetson.settings(root) | (dict(service.look().settings) if service else {})


class Host:
    """Looks at one machine whenever it is asked; events are counted from one look to the next."""

    def __init__(self, threads: int = 1, root: Path = Path("/")) -> None:
        self._root = root
        self._load, self._thermal = Load(threads, root), Thermal(root)

    def look(self) -> State:
        """Return the state now."""
        state = cpu.look(self._root).joined(self._thermal.look()).joined(self._load.look())
        if not jetson.is_jetson(self._root):
            return state.joined(mali.look(self._root))
        service = jtop.connected(self._root)  # Kept by jtop; what is exact never asks for it.
        return _of_jetson(state, jetson.look(self._root), service.look() if service else State())


def _of_jetson(state: State, files: State, service: State) -> State:
    """Join a Jetson's states: jetson_clocks fixes all clocks, so its word on them counts if the service gives it."""
    # Files see a clock as moving when only its bounds differ; the service knows whether jetson_clocks holds it.
    rest = tuple(flaw for flaw in state.unsound if flaw.trouble is not Trouble.CLOCKS)
    clocks = service.unsound if "jetson_clocks" in service.settings else files.unsound
    joined = state.joined(files).joined(service)
    return State(joined.settings, joined.readings, rest + clocks)
