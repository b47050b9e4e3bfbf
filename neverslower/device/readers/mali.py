"""Read the state of an Arm Mali GPU from sysfs files that anyone may read: governor, clock, power policy and driver.

Sources: a Mali's clock is a devfreq device, named after its address and `mali` or `gpu` (`e82c0000.mali`,
`fb000000.gpu`), whose governor moves it between `min_freq` and `max_freq`, in Hz (Linux,
Documentation/ABI/testing/sysfs-class-devfreq). Arm's own kernel driver, mali_kbase, gives its release in
/sys/module/mali_kbase/version where it is a module, and its power policy (`[coarse_demand] always_on`) and its GPU
(`gpuinfo`) next to the device; the drivers of mainline Linux, panfrost and panthor, have none of these.
"""

from __future__ import annotations

import re
from pathlib import Path

from neverslower.device.readers.sysfs import clock_range, number, text
from neverslower.device.state import State, Trouble, Unsound


def model(root: Path = Path("/")) -> str:
    """Return the GPU's name from Arm's driver: `Mali-G610 4 cores r0p0 0xA867`; empty where it gives none."""
    folder = _folder(root)
    return text(folder / "device/gpuinfo") if folder else ""


def driver(root: Path = Path("/")) -> str:
    """Return the kernel driver's release: `r22p0-01rel0` from `r22p0-01rel0 (UK version 11.4)`; empty where unknown."""
    return text(root / "sys/module/mali_kbase/version").partition(" ")[0]


def settings(root: Path = Path("/")) -> dict[str, str]:
    """Return the settings that decide speed: governor, clock range and power policy; what can't be read is left out."""
    folder = _folder(root)
    if not folder:
        return {}
    policy = re.search(r"\[(\S+)\]", text(folder / "device/power_policy"))
    known = {
        "gpu governor": text(folder / "governor"),
        "gpu clock": clock_range(number(folder / "min_freq"), number(folder / "max_freq")),
        "gpu power policy": policy[1] if policy else "",
    }
    return {key: value for key, value in known.items() if value}


def look(root: Path = Path("/")) -> State:
    """Read governor, clock and power policy; a moving clock is a warning."""
    folder, known, hertz = _folder(root), settings(root), current_clock_hz(root)
    readings = {"gpu MHz": hertz / 1e6} if hertz else {}
    if not folder or " to " not in known.get("gpu clock", "") or known.get("gpu governor") == "performance":
        return State(known, readings)
    why = f"the GPU's clock moves with its load (governor {known.get('gpu governor', 'unknown')})"
    remedy = f"echo performance | sudo tee /sys/class/devfreq/{folder.name}/governor"
    return State(known, readings, (Unsound(Trouble.CLOCKS, why, remedy, grave=False),))


def current_clock_hz(root: Path = Path("/")) -> int | None:
    """Return the current clock in Hz, or None; it jitters and decides nothing."""
    folder = _folder(root)
    return (number(folder / "cur_freq") or None) if folder else None


def _folder(root: Path) -> Path | None:
    """Return the folder of the Mali's devfreq device, if there is one."""
    devices = root / "sys/class/devfreq"
    # A name with "mali" is certain, so it comes before the name that others share.
    folders = [*sorted(devices.glob("*mali*")), *sorted(devices.glob("*.gpu"))]
    return next((folder for folder in folders if _is_mali(folder)), None)


def _is_mali(folder: Path) -> bool:
    """Return whether a devfreq device is a Mali.

    Other makers' GPUs are `….gpu` too; the device tree distinguishes them, where it can be read.
    """
    compatible = text(folder / "device/of_node/compatible")
    return "mali" in folder.name or "mali" in compatible or not compatible
