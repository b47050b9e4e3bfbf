"""The process that runs ACL, which is asked and answers in lines of JSON; native/src holds the other side."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

from neverslower.errors import NeverSlowerError

PROTOCOL = 1
LIMIT = 100.0
"""Seconds for one answer: less than a worker has, so that it is the runner that is said to hang."""


class RunnerDied(NeverSlowerError):
    """The runner is gone, or was ended since it gave no answer; the text says in one line how it ended."""


class RunnerFailed(NeverSlowerError):
    """The runner answered with an error: the library threw an exception, or the request can't be read."""


class Refused(Exception):
    """The library refuses the problem; the text is the library's own."""


class Runner:
    """One runner process, which must answer each request within `limit` seconds.

    Raises RunnerDied where it can't be started, or does not introduce itself as it should.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], limit: float = LIMIT) -> None:
        self._limit = limit
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=os.environ | dict(variables),
            )
        except OSError as error:
            self._stderr.close()
            raise RunnerDied(f"the ACL runner can't be started: {command[0]}: {error.strerror}") from error
        self._received = b""
        self._number = 0
        self._unwanted: list[int] = []
        try:
            self.hello = self._hello()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the process: the runner itself where it runs natively, else the emulator."""
        return self._process.pid

    def _hello(self) -> Mapping[str, Any]:
        answer = self._read("start")
        hello = answer.get("hello")
        if not isinstance(hello, dict):
            raise RunnerDied(f"the ACL runner did not introduce itself, but said {json.dumps(answer)[:200]}")
        if "error" in hello:
            raise RunnerDied(f"the ACL runner can't start: {hello['error']}")
        if hello.get("protocol") != PROTOCOL:
            text = f"the ACL runner speaks protocol {hello.get('protocol')}, this never-slower {PROTOCOL}"
            raise RunnerDied(f"{text}; build it again: `python -m neverslower build-acl`")
        return hello

    def number(self) -> int:
        """Return a new number, by which the runner is to know a problem."""
        self._number += 1
        return self._number

    def forget(self, number: int) -> None:
        """Free a problem before the next request; not now, which may be in the middle of one."""
        self._unwanted.append(number)

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Return the answer to one request. Raises Refused, RunnerFailed or RunnerDied."""
        while self._unwanted:
            self._answered("drop", id=self._unwanted.pop())
        return self._answered(operation, **fields)

    def _answered(self, operation: str, **fields: Any) -> dict[str, Any]:
        if self._stderr.closed:
            raise RunnerDied(f"the ACL runner has ended, asked to {operation}")
        self._write(operation, {"op": operation, **fields})
        answer = self._read(operation)
        if answer.get("id") != fields.get("id"):
            self.close()
            raise RunnerDied(f"the ACL runner, asked to {operation}, answered another request")
        return _result(operation, answer)

    def _write(self, operation: str, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died(operation) from None

    def _read(self, operation: str) -> dict[str, Any]:
        """Return the next line of the runner's, as JSON. Raises RunnerDied where none comes within the limit."""
        line = self._line(operation)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            raise RunnerDied(f"the ACL runner, asked to {operation}, sent something that is not JSON: {line[:200]!r}")
        return answer

    def _line(self, operation: str) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._received:
            ready, _, _ = select.select([descriptor], [], [], self._limit)
            if not ready:
                self.close()
                raise RunnerDied(f"the ACL runner gave no answer within {self._limit:g} s, asked to {operation}")
            received = os.read(descriptor, 1 << 16)
            if not received:
                raise self._died(operation)
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _died(self, operation: str) -> RunnerDied:
        """End what is left of the process, and return the error that says why there is no answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        words = self._last_words()
        why = _ending(self._process.returncode)
        self.close()
        return RunnerDied(f"the ACL runner {why}, asked to {operation}{': ' + words if words else ''}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the process."""
        if self._stderr.closed:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._stderr.close()

    @property
    def alive(self) -> bool:
        """Tell whether the runner can be asked."""
        return not self._stderr.closed and self._process.poll() is None


def _result(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the runner answered. Raises Refused or RunnerFailed where it is no result."""
    if "refused" in answer:
        raise Refused(str(answer["refused"]))
    if "error" in answer:
        raise RunnerFailed(f"ACL, asked to {operation}: {answer['error']}")
    result = answer.get("ok")
    if not isinstance(result, dict):
        raise RunnerFailed(f"the ACL runner, asked to {operation}, said {json.dumps(answer)[:200]}")
    return result


def _ending(code: int | None) -> str:
    """Return how a process ended. An emulator dies of its guest's signal, or exits with 128 and its number."""
    if code is None:
        return "closed its output"
    number = -code if code < 0 else code - 128
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(number).name}"
    return f"ended with {code}"
