"""What this machine's processor is, and the settings that decide its speed."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo, as x86 and Arm write it."""
    fields = dict(re.findall(r"^([^\t:\n]+?)[ \t]*:[ \t]*(.*)$", cpuinfo, flags=re.MULTILINE))
    # Model before Hardware: every Raspberry Pi since the second gives its hardware as BCM2835.
    name = fields.get("model name") or fields.get("Model") or fields.get("Hardware")
    if not name and "CPU part" in fields:
        name = f"{fields.get('CPU implementer', '?')} {fields['CPU part']}"
    text = name or platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((?:R|TM|r|tm)\)|\bCPU\b|@.*", "", text).split())


def cpu_hardware() -> dict[str, str]:
    """The processor: model, family numbers, architecture and the cores that this process may use."""
    cpuinfo = read_text(Path("/proc/cpuinfo"))
    numbers = re.findall(r"^(cpu family|model|stepping|CPU part)\s*:\s*(\S+)$", cpuinfo, flags=re.MULTILINE)
    return {
        "cpu": cpu_model(cpuinfo),
        "cpu id": "-".join(value for _, value in dict(numbers).items()),
        "arch": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else str(os.cpu_count()),
    }


def cpu_state(root: Path = Path("/sys/devices/system/cpu")) -> dict[str, str]:
    """What decides a CPU's speed and stands still: governor, boost, SMT; what is absent is left out."""
    files = {
        "governor": root / "cpu0/cpufreq/scaling_governor",
        "boost": root / "cpufreq/boost",
        "no_turbo": root / "intel_pstate/no_turbo",
        "smt": root / "smt/control",
    }
    return {name: text for name, path in files.items() if (text := read_text(path).strip())}


def read_text(path: Path) -> str:
    """What a file says, nothing where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
