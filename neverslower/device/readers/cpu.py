"""Read the processor of any Linux machine: its model, governors, clock ranges and current clocks.

arm.py says what a cpufreq policy is; it is the same on every processor. Virtual machines have none, so nothing is
reported of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from neverslower.device.processor import cpu_state
from neverslower.device.readers.arm import current_clocks_hz, state
from neverslower.device.state import State, Trouble, Unsound

MOST_CLOCKS = 8
"""The most clocks that are read, since a kernel may take 20 ms for one; boards have fewer policies than that."""
FIX_CLOCKS = "sudo cpupower frequency-set --governor performance"


def look(root: Path = Path("/")) -> State:
    """Read governors, clock ranges and clocks; equal policies are listed once, and a moving clock is a warning."""
    policies = state(root)
    settings = cpu_state(root / "sys/devices/system/cpu") | {
        f"cpu {kind}": ", ".join(dict.fromkeys(_of(policies, kind))) for kind in ("governor", "clock")
    }
    if "cpu governor" in settings:
        settings.pop("governor", None)  # That of the first core, which is among those.
    settings["cores online"] = policies.get("cores online", "")
    clocks = dict(itertools.islice(current_clocks_hz(root), MOST_CLOCKS))
    return State(
        {name: text for name, text in settings.items() if text},
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
