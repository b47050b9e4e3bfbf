"""The kernels that calls launch, from torch's profiler (CUPTI): in order, with grid, block and share of the time."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neverslower.evidence.kernels import Extent, Kernel

MARK = "spin_kernel"
"""The kernel of `torch.cuda._sleep`, launched after each call to mark where the next one begins."""
Launched = list[tuple[Kernel, float]]
"""Kernels in order, each with the microseconds that it took under the profiler."""


def profile(torch: Any, calls: Sequence[Callable[[], Any]]) -> list[Launched]:
    """Return the kernels that each call launches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises on cycles of events, of which there is only one here.
        with _profiler(torch) as profiler:
            for call in calls:
                call()
                torch.cuda._sleep(100)
            torch.cuda.synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            profiler.export_chrome_trace(path)
            with open(path, encoding="utf-8", errors="replace") as file:
                trace = json.load(file)
    return launches(trace, len(calls))


def _profiler(torch: Any) -> Any:
    """Return a profiler of the GPU alone.

    torch.profiler.profile does the same, after it has imported torch._inductor, which takes 5 s and serves no purpose
    here.
    """
    major, minor = (int(number) for number in str(torch.__version__).split(".")[:2])
    where = {"use_device": "cuda"} if (major, minor) >= (2, 4) else {"use_cuda": True}
    return torch.autograd.profiler.profile(use_cpu=False, use_kineto=True, **where)


def launches(trace: Mapping[str, Any], calls: int) -> list[Launched]:
    """Divide a Chrome trace at the marks into the launches of each call. Raises ValueError where marks are missing."""
    wanted = ("kernel", "gpu_memset", "gpu_memcpy")
    # A trace is not in order of time.
    events = sorted(
        (event for event in trace["traceEvents"] if event.get("cat") in wanted), key=lambda event: event["ts"]
    )
    launched: list[Launched] = [[]]
    for event in events:
        if MARK in event["name"]:
            launched.append([])
        else:
            launched[-1].append((_kernel(event), float(event["dur"])))
    if len(launched) != calls + 1:
        raise ValueError(f"the profiler saw {len(launched) - 1} of {calls} calls end")
    return launched[:-1]


def _kernel(event: Mapping[str, Any]) -> Kernel:
    arguments = event.get("args", {})
    return Kernel(without_arguments(event["name"]), _extent(arguments.get("grid")), _extent(arguments.get("block")))


def without_arguments(name: str) -> str:
    """Return a kernel's name without its list of argument types, which says nothing that the template does not."""
    # From the end, since template arguments may hold parentheses of their own.
    depth = 0
    for position in range(len(name) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(name[position], 0)
        if depth == 0:
            ends_in_a_list = name.endswith(")") and position and name[position - 1] != " "
            return name[:position] if ends_in_a_list else name
    return name


def _extent(values: Sequence[int] | None) -> Extent:
    x, y, z = values or (1, 1, 1)
    return int(x), int(y), int(z)


def steps_and_shares(launched: Launched) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return a plan's steps, and each one's share of the time, rounded to a hundredth."""
    total = sum(taken for _, taken in launched) or 1.0
    return tuple(str(kernel) for kernel, _ in launched), tuple(round(taken / total, 2) for _, taken in launched)
