"""The state of an NVIDIA Jetson, from sysfs and files that anyone may read: module, power mode, and clocks.

Sources: the `nvpmodel` service keeps the mode that was set last in /var/lib/nvpmodel/status (`pmode:0002`) and names
modes in /etc/nvpmodel.conf (`< POWER_MODEL ID=2 NAME=MAXN >`); GPU and memory controller are devfreq devices, whose
lowest and highest frequency are equal once jetson_clocks has fixed them (NVIDIA, Jetson Linux Developer Guide,
"Platform Power and Performance"; Linux, Documentation/ABI/testing/sysfs-class-devfreq).
"""

from __future__ import annotations

import re
from pathlib import Path


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this is a Jetson: its device tree says so."""
    return "nvidia,tegra" in _text(root / "proc/device-tree/compatible")


def module(root: Path = Path("/")) -> str:
    """The board's name in its device tree."""
    return _text(root / "proc/device-tree/model") or "Jetson"


def jetpack(root: Path = Path("/")) -> str:
    """The release of Jetson Linux: `R36.4.3` from `# R36 (release), REVISION: 4.3, …`."""
    match = re.search(r"# (R\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else "unknown"


def state(root: Path = Path("/")) -> dict[str, str]:
    """Power mode, whether clocks are fixed, and the memory clock's bounds; what can't be read is left out."""
    found = {"nvpmodel": _power_mode(root)}
    for name, pattern in (("gpu", "*gpu*"), ("emc", "*emc*")):
        folders = sorted((root / "sys/class/devfreq").glob(pattern))
        low, high = (_text(folders[0] / f"{end}_freq") if folders else "" for end in ("min", "max"))
        if low and high:
            found[f"{name} clock"] = _clock(low, high)
    return {key: text for key, text in found.items() if text}


def _clock(low: str, high: str) -> str:
    """A fixed clock, or the range in which the governor moves it."""
    fixed, top = int(low) // 1_000_000, int(high) // 1_000_000
    return f"{top} MHz, fixed" if low == high else f"{fixed} to {top} MHz"


def _power_mode(root: Path) -> str:
    match = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if not match:
        return ""
    number = int(match[1])
    names = dict(re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", _text(root / "etc/nvpmodel.conf")))
    return f"{number} {names[str(number)]}" if str(number) in names else str(number)


def _text(path: Path) -> str:
    """What a file says, without the NUL that ends strings of a device tree; nothing where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""
