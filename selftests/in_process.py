"""A worker whose far side lives in the test's own process: for tests of logic, which need no process of their own.

It has the methods of `Worker` and answers as one does: what is asked and answered is packed and unpacked as execnet
would, errors take the same way, and each worker has a far side of its own. What it can't do is die: where a script
kills or hangs its worker, or a spec names another Python, `start` starts a process.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from types import SimpleNamespace
from typing import Any
from unittest import mock

import execnet

from neverslower.worker import far_side, sampling
from neverslower.worker.process import ENVIRONMENT, LOCAL, Worker, WorkerSpec, answered

DEADLY = {"crash", "hang", "hang_holding_gil"}
_ALONE = RLock()
"""A process has one environment: what threads ask of several workers is answered one after the other."""

_IDLE = SimpleNamespace(
    collect=lambda: 0, freeze=lambda: None, isenabled=lambda: False, enable=lambda: None, disable=lambda: None
)


class InProcess(Worker):
    """One backend in the test's own process."""

    alive = True

    def _start(self) -> None:
        self._far_side = far_side.FarSide()

    def _ask(self, name: str, *arguments: Any, limit: float | None = None, subjects: int = 1) -> Any:
        request = execnet.loads(execnet.dumps((name, arguments, limit or self.spec.time_limit)))
        with _ALONE, mock.patch.dict(os.environ, ENVIRONMENT | variables(self.spec)), _garbage_left_alone():
            answer = far_side.answer(self._far_side, *request[:2])
        return answered(*execnet.loads(execnet.dumps(answer)))


def start(spec: WorkerSpec, process: int = 0) -> Worker:
    """Start a worker in this process, or in its own where the spec or the script needs one."""
    return (Worker if needs_process(spec) else InProcess)(spec, process)


def needs_process(spec: WorkerSpec) -> bool:
    """Tell whether what a spec describes can't be had in the test's own process."""
    place, *options = spec.execnet.split("//")
    if spec.backend != "scripted" or place != LOCAL or not all(one.startswith("env:") for one in options):
        return True
    path = variables(spec).get("NEVERSLOWER_SCRIPT") or os.environ.get("NEVERSLOWER_SCRIPT") or spec.argument
    try:
        rules = json.loads(Path(path).read_text(encoding="utf-8"))["rules"]
        return any(rule.get("fault") in DEADLY for rule in rules)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False  # No script, or none with rules, or one that can't be read: it says so itself.


def variables(spec: WorkerSpec) -> dict[str, str]:
    """Return the environment variables that a worker of this spec has beside those of this process."""
    options = [one.removeprefix("env:").partition("=") for one in spec.execnet.split("//")[1:]]
    return {**spec.variables, **{name: value for name, _, value in options}}


@contextlib.contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Spare the collector: a test's process holds so much that a look through it would take longer than the test.

    A far side collects before each pair of rounds, for the sake of times that are real, and freezes what it loads.
    """
    with mock.patch.object(sampling, "gc", _IDLE), mock.patch.object(far_side, "gc", _IDLE):
        yield
