"""What oneDNN says in its verbose mode: the primitives that it ran, its version, and the settings that it obeys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SETTINGS = ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")
"""Settings by which a user restricts oneDNN (its manual, "CPU Dispatcher Control", "Floating-point Math Mode")."""


@dataclass(frozen=True)
class Step:
    """One primitive that oneDNN ran: its kind, its implementation, and the layouts it works on."""

    primitive: str
    implementation: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.primitive, self.implementation, *self.details))

    @classmethod
    def read(cls, text: str) -> Step:
        """Read what `str` wrote."""
        primitive, implementation, *details = text.split()
        return cls(primitive, implementation, tuple(details))

    def tag(self, name: str) -> str:
        """Return the layout of `src`, `wei` or `dst`, the `prop`agation kind or the `post-ops`; else `any`."""
        return next((text.partition(":")[2] for text in self.details if text.startswith(f"{name}:")), "any")


def parse_steps(verbose: str) -> list[Step]:
    """Return the executed primitives in oneDNN's verbose output, in order.

    A line reads `onednn_verbose[,v1],[primitive,]exec,ENGINE,PRIMITIVE,IMPLEMENTATION,PROPAGATION,MEMORY,…`;
    implementations of Arm Compute Library end in `:acl` (oneDNN's documentation, "Verbose Mode").
    """
    steps = []
    for line in verbose.splitlines():
        fields = line.split(",")
        if not fields[0].endswith("_verbose") or "exec" not in fields[:4]:
            continue
        rest = fields[fields.index("exec") + 2 :]
        if len(rest) < 4:
            continue
        primitive, implementation, propagation, memory = rest[:4]
        # Memory reads `src:f32:a:blocked:aBcd16b::f0` today and `src_f32::blocked:aBcd16b:f0` before oneDNN 3.1.
        tags = re.findall(r"\b(src|wei|dst)[_:]\w+:\w*:blocked:(\w+)", memory)
        algorithm = [field for field in rest[4:] if field.startswith("alg:")]
        # Attributes read `attr-scratchpad:user attr-post-ops:sum+eltwise_relu`, in one field.
        post_ops = [word.removeprefix("attr-") for field in rest[4:] for word in field.split() if "post-ops:" in word]
        details = [f"{name}:{tag}" for name, tag in tags] + algorithm + post_ops
        if propagation.startswith("forward"):
            details.append(f"prop:{propagation}")
        steps.append(Step(primitive, implementation, tuple(details)))
    return steps


def settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the oneDNN settings that environment variables make, by their newer names."""
    chosen = {f"ONEDNN_{name}": variables.get(f"ONEDNN_{name}") or variables.get(f"DNNL_{name}") for name in _SETTINGS}
    return {name: value for name, value in chosen.items() if value}


def parse_info(verbose: str) -> dict[str, str]:
    """Return version, commit and instruction set from the lines that oneDNN prints first in verbose mode."""
    info = {}
    if match := re.search(r"info,(?:oneDNN|DNNL) v(\S+) \(commit (\w+)\)", verbose):
        info["version"], info["commit"] = match.groups()
    if match := re.search(r"info,cpu,isa:(.+)", verbose):
        info["isa"] = match.group(1).strip()
    return info
