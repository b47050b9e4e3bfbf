"""Read the state of an NVIDIA Jetson from files that anyone may read: module, power mode and clocks.

Sources: the `nvpmodel` service keeps the mode that was set last in /var/lib/nvpmodel/status (`pmode:0002`) and names
modes in /etc/nvpmodel.conf (`< POWER_MODEL ID=2 NAME=MAXN >`); GPU and memory controller are devfreq devices, whose
lowest and highest frequency are equal once jetson_clocks has fixed them (NVIDIA, Jetson Linux Developer Guide,
"Platform Power and Performance"; Linux, Documentation/ABI/testing/sysfs-class-devfreq). The GPU's device is called
`57000000.gpu` on a Nano, `17000000.gp10b` on a TX2, `17000000.gv11b` on a Xavier, `17000000.ga10b` or `17000000.gpu` on
an Orin, `gpu-gpc-0` on a Thor (rbonghi/jetson_stats, jtop/core/gpu.py and issue 885); the memory controller of a Thor
is called `bwmgr` (jtop/core/memory.py). Only root and jetson-stats (jtop.py) can read that of an Orin.
"""

from __future__ import annotations

import re
from pathlib import Path

from neverslower.device.readers import arm
from neverslower.device.readers.sysfs import clock_range, number
from neverslower.device.readers.sysfs import text as _text
from neverslower.device.state import State, Trouble, Unsound

_DEVICES = {"gpu": r"\.(gpu|g[abpv]\d+b)$|^gpu-gpc-0$|^gpu$", "emc": r"emc|^bwmgr$"}
FIX_CLOCKS = "sudo jetson_clocks"


def is_jetson(root: Path = Path("/")) -> bool:
    """Return whether this machine is a Jetson, which its device tree says."""
    return "nvidia,tegra" in _text(root / "proc/device-tree/compatible")


def module(root: Path = Path("/")) -> str:
    """Return the board's name from its device tree."""
    return _text(root / "proc/device-tree/model") or "Jetson"


def jetpack(root: Path = Path("/")) -> str:
    """Return the release of Jetson Linux: `R36.4.3` from `# R36 (release), REVISION: 4.3, …`."""
    match = re.search(r"# (R\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else "unknown"


def settings(root: Path = Path("/")) -> dict[str, str]:
    """Return the power mode and the GPU's and the memory's clock ranges; what can't be read is left out."""
    known = {"nvpmodel": _power_mode(root)}
    for name in _DEVICES:
        if folder := _device(root, name):
            known[f"{name} clock"] = clock_range(number(folder / "min_freq"), number(folder / "max_freq"))
    return {key: text for key, text in known.items() if text}


def look(root: Path = Path("/")) -> State:
    """Read power mode and clocks; a clock that is not fixed is unsound, because it moves with the load."""
    if not is_jetson(root):
        return State()
    known, readings = settings(root), {}
    for name in _DEVICES:
        folder = _device(root, name)
        if folder and (hertz := number(folder / "cur_freq")):
            readings[f"{name} MHz"] = hertz / 1e6
    return State(known, readings, unlocked({**arm.settings(root), **known}))


def unlocked(settings: dict[str, str]) -> tuple[Unsound, ...]:
    """Report clocks that jetson_clocks has not fixed; nothing where no clock can be read."""
    moving = [f"{name} {text}" for name, text in settings.items() if name.endswith(" clock") and " to " in text]
    if not moving:
        return ()
    return (Unsound(Trouble.CLOCKS, f"clocks are not fixed: {', '.join(moving)}", FIX_CLOCKS),)


def _device(root: Path, name: str) -> Path | None:
    folders = sorted((root / "sys/class/devfreq").glob("*"))
    return next((folder for folder in folders if re.search(_DEVICES[name], folder.name)), None)


def _power_mode(root: Path) -> str:
    match = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if not match:
        return ""
    number = int(match[1])  # `0002` in the status file, `2` in the configuration.
    names = dict(re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", _text(root / "etc/nvpmodel.conf")))
    return f"{number} {names[str(number)]}" if str(number) in names else str(number)
