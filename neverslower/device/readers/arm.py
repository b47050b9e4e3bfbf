"""Read the state of an Arm board's processor from sysfs files that anyone may read: cores, governors and clocks.

Sources: each cpufreq policy is a group of cores with one clock; `scaling_governor` moves it between
`scaling_min_freq` and `scaling_max_freq`, in kHz (Linux, Documentation/admin-guide/pm/cpufreq.rst). Thermal
protection lowers the upper bound, so a board that is too hot shows another state.
`CPU part` in /proc/cpuinfo is the part number of MIDR_EL1, whose names are in Arm's technical reference manuals and
in Linux's arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from neverslower.device.readers.sysfs import clock_range, number, text

_ARM = "0x41"
_PARTS = {
    "0xc07": "Cortex-A7",
    "0xc09": "Cortex-A9",
    "0xc0d": "Cortex-A17",
    "0xc0e": "Cortex-A17",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd0e": "Cortex-A76AE",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2",
    "0xd4b": "Cortex-A78C",
    "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3",
    "0xd4f": "Neoverse-V2",
    "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
    "0xd82": "Cortex-X4",
}


def board(root: Path = Path("/")) -> str:
    """Return the board's name from its device tree; empty where there is none."""
    return text(root / "proc/device-tree/model")


def parts(root: Path = Path("/")) -> str:
    """Return the cores that are online, in the system's order: `4 Cortex-A55, 4 Cortex-A76`; unknown ones by number."""
    cores = re.split(r"\n\s*\n", text(root / "proc/cpuinfo"))
    fields = [dict(re.findall(r"^(CPU implementer|CPU part)\s*:\s*(\S+)", core, flags=re.MULTILINE)) for core in cores]
    # A Counter keeps the order of first sight, which is the system's order of clusters.
    names = Counter(_part(core.get("CPU implementer", "?"), core["CPU part"]) for core in fields if "CPU part" in core)
    return ", ".join(f"{count} {name}" for name, count in names.items())


def settings(root: Path = Path("/")) -> dict[str, str]:
    """Return the settings that decide speed: cores online, and each policy's governor and clock range.

    Policies are named after their first core: `policy4 governor`, `policy4 clock`. What can't be read is left out.
    """
    known = {"cores online": text(root / "sys/devices/system/cpu/online")}
    for policy in _policies(root):
        known[f"{policy.name} governor"] = text(policy / "scaling_governor")
        low, high = (_frequency_hz(policy / f"scaling_{end}_freq") for end in ("min", "max"))
        known[f"{policy.name} clock"] = clock_range(low, high)
    return {key: value for key, value in known.items() if value}


def current_clocks_hz(root: Path = Path("/")) -> Iterator[tuple[str, int]]:
    """Yield each policy's current clock in Hz, read as it is asked for; it jitters and decides nothing."""
    for policy in _policies(root):
        if frequency := _frequency_hz(policy / "scaling_cur_freq"):
            yield policy.name, frequency


def _part(implementer: str, part: str) -> str:
    """Name a core; part numbers belong to their implementer, so only Arm's are looked up."""
    return _PARTS.get(part.lower(), f"{implementer} {part}") if implementer == _ARM else f"{implementer} {part}"


def _policies(root: Path) -> list[Path]:
    folders = (root / "sys/devices/system/cpu/cpufreq").glob("policy[0-9]*")
    # By number: as text, policy10 would come before policy4, and the order is part of what is stored.
    return sorted(folders, key=lambda folder: int(folder.name.removeprefix("policy")))


def _frequency_hz(path: Path) -> int:
    return number(path) * 1000
