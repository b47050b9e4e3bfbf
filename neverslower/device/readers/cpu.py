"""Read the processor of any Linux machine: its model, governors, clock ranges and current clocks.

arm.py says what a cpufreq policy is; it is the same on every processor. Virtual machines have none, so nothing is
reported of them.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from neverslower.device.readers import arm
from neverslower.device.readers.sysfs import read_text
from neverslower.device.state import State, Trouble, Unsound

MOST_CLOCKS = 8
"""The most clocks that are read, since a kernel may take 20 ms for one; boards have fewer policies than that."""
FIX_CLOCKS = "sudo cpupower frequency-set --governor performance"


def model(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo, as x86 or Arm writes it."""
    fields = dict(re.findall(r"^([^\t:\n]+?)[ \t]*:[ \t]*(.*)$", cpuinfo, flags=re.MULTILINE))
    # Model before Hardware: every Raspberry Pi since the second gives its hardware as BCM2835.
    name = fields.get("model name") or fields.get("Model") or fields.get("Hardware")
    if not name and "CPU part" in fields:
        name = f"{fields.get('CPU implementer', '?')} {fields['CPU part']}"
    text = name or platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((?:R|TM|r|tm)\)|\bCPU\b|@.*", "", text).split())


def hardware() -> dict[str, str]:
    """Return model, family numbers, architecture and the number of cores that this process may use."""
    cpuinfo = read_text(Path("/proc/cpuinfo"))
    numbers = re.findall(r"^(cpu family|model|stepping|CPU part)\s*:\s*(\S+)$", cpuinfo, flags=re.MULTILINE)
    return {
        "cpu": model(cpuinfo),
        "cpu id": "-".join(value for _, value in dict(numbers).items()),
        "arch": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else str(os.cpu_count()),
    }


def settings(folder: Path = Path("/sys/devices/system/cpu")) -> dict[str, str]:
    """Return the settings that decide speed: governor, boost and SMT; what is absent is left out."""
    files = {
        "governor": folder / "cpu0/cpufreq/scaling_governor",
        "boost": folder / "cpufreq/boost",
        "no_turbo": folder / "intel_pstate/no_turbo",
        "smt": folder / "smt/control",
    }
    return {name: text for name, path in files.items() if (text := read_text(path).strip())}


def look(root: Path = Path("/")) -> State:
    """Read governors, clock ranges and clocks; equal policies are listed once, and a moving clock is a warning."""
    policies = arm.settings(root)
    known = settings(root / "sys/devices/system/cpu") | {
        f"cpu {kind}": ", ".join(dict.fromkeys(_of(policies, kind))) for kind in ("governor", "clock")
    }
    if "cpu governor" in known:
        known.pop("governor", None)  # The first core's, which "cpu governor" lists with the others'.
    known["cores online"] = policies.get("cores online", "")
    clocks = dict(itertools.islice(arm.current_clocks_hz(root), MOST_CLOCKS))
    return State(
        {name: text for name, text in known.items() if text},
        {f"{name} MHz": hertz / 1e6 for name, hertz in clocks.items()},
        _moving(policies),
    )


def _of(policies: Mapping[str, str], kind: str) -> list[str]:
    return [text for name, text in policies.items() if name.startswith("policy") and name.endswith(f" {kind}")]


def _moving(policies: Mapping[str, str]) -> tuple[Unsound, ...]:
    """Warn of governors that move a clock with the load, where its range leaves them room."""
    moving = [
        governor
        for name, governor in policies.items()
        if name.endswith(" governor") and governor != "performance" and not _fixed(policies, name)
    ]
    if not moving:
        return ()
    text = f"the processor's clock moves with its load (governor {', '.join(dict.fromkeys(moving))})"
    return (Unsound(Trouble.CLOCKS, text, FIX_CLOCKS, grave=False),)


def _fixed(policies: Mapping[str, str], governor: str) -> bool:
    return policies.get(governor.replace(" governor", " clock"), "").endswith("fixed")
