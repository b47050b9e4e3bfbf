"""What several selftests share: small problems, scripts for the scripted backend, and a view of the processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from neverslower.evidence.observation import PairedPass
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.worker.process import WorkerSpec

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
PATIENCE = 15.0
T = TypeVar("T")

needs_proc = pytest.mark.skipif(not (PROC / "self/stat").exists(), reason="processes are watched through /proc")


def known(value: T | None) -> T:
    """Return what must not be None."""
    assert value is not None
    return value


def problem(out_channels: int = 16, **fields: Any) -> ConvProblem:
    """A convolution that takes no time: 8 channels of 6×6, 3×3 kernel."""
    shape: dict[str, Any] = {"in_channels": 8, "height": 6, "width": 6, "kernel": (3, 3), "padding": (1, 1, 1, 1)}
    return ConvProblem(out_channels=out_channels, **shape | fields)


def comparison(distance: int, unpruned: ConvProblem | None = None, name: str = "tiny", telling: int = 0) -> Comparison:
    """A small layer on the scripted backend against itself with `distance` channels pruned."""
    layer = Layer("", 0, name, unpruned or problem())
    candidate = layer.problem.prune(distance) if distance else layer.problem
    return Comparison("scripted", layer, candidate, telling=telling)


def fake_passes(
    ratio: float = 1.0, noise: float = 0.01, seed: int = 0, number: int = 5, blocks: int = 8
) -> list[PairedPass]:
    """Passes of a candidate that takes `ratio` times as long as a reference of about a millisecond."""
    rng = np.random.default_rng(seed)
    passes = []
    for _ in range(number):
        seconds = 1e-3 * np.exp(rng.normal(0, noise, (blocks, 2, 2)))
        seconds[:, 1] *= ratio
        passes.append(PairedPass(seconds, (1, 1), "fake"))
    return passes


def layers(count: int) -> list[ConvProblem]:
    """Distinct small problems."""
    return [replace(problem(), height=6 + index) for index in range(count)]


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder with these files, as a reader of /proc and /sys takes for the root."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def script(folder: Path, **fields: Any) -> Path:
    """A script for the scripted backend, written to a file."""
    path = folder / "script.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def scripted(folder: Path, time_limit: float = 30.0, **fields: Any) -> WorkerSpec:
    """The spec of a worker on a script."""
    return WorkerSpec("scripted", str(script(folder, **fields)), time_limit=time_limit)


def children(parent: int) -> set[int]:
    """The live child processes of `parent`; what has ended and awaits being collected does not count."""
    found = set()
    for path in PROC.glob("[0-9]*"):
        state, its_parent = _state(int(path.name))
        if its_parent == parent and state not in "ZX":
            found.add(int(path.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    return _state(pid)[0] not in "ZX"


def _state(pid: int) -> tuple[str, int]:
    """(state letter, parent) of a process; an absent one is dead and has no parent."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "X", -1
    return fields[0], int(fields[1])


def eventually(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether `condition` comes true before patience ends."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
