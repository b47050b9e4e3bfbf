"""The process that runs ACL, and the lines of JSON that it is asked in; native/src is the other side."""

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
"""Seconds for one answer: less than a worker has, so that what hangs is told in a line of its own."""


class RunnerDied(NeverSlowerError):
    """The runner is gone, or was ended because it gave no answer; the text is its end in one line."""


class RunnerFailed(NeverSlowerError):
    """The runner answered with an error: the library's exception, or a request that it can't read."""


class Refused(Exception):
    """The library refuses the problem; the text is its own."""


class Runner:
    """One runner process. Raises RunnerDied where it does not begin as it should."""

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
        self._waiting = b""
        self._number = 0
        self._unwanted: list[int] = []
        try:
            self.hello = self._hello()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process: the runner's own where it runs natively, else that of what emulates it."""
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
        """A new name for a problem."""
        self._number += 1
        return self._number

    def forget(self, number: int) -> None:
        """Free a problem before the next request: now may be in the middle of another one."""
        self._unwanted.append(number)

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """The answer to one request. Raises Refused, RunnerFailed or RunnerDied."""
        while self._unwanted:
            self._answered("drop", id=self._unwanted.pop())
        return self._answered(operation, **fields)

    def _answered(self, operation: str, **fields: Any) -> dict[str, Any]:
        if self._stderr.closed:
            raise RunnerDied(f"the ACL runner has ended, asked to {operation}")
        line = json.dumps({"op": operation, **fields}, separators=(",", ":")) + "\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError:
            raise self._died(operation) from None
        answer = self._read(operation)
        if answer.get("id") != fields.get("id"):
            self.close()
            raise RunnerDied(f"the ACL runner, asked to {operation}, answered another request")
        if "refused" in answer:
            raise Refused(str(answer["refused"]))
        if "error" in answer:
            raise RunnerFailed(f"ACL, asked to {operation}: {answer['error']}")
        found = answer.get("ok")
        if not isinstance(found, dict):
            raise RunnerFailed(f"the ACL runner, asked to {operation}, said {json.dumps(answer)[:200]}")
        return found

    def _read(self, operation: str) -> dict[str, Any]:
        """One line of the runner's, as it comes within the limit."""
        line = self._line(operation)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            raise RunnerDied(f"the ACL runner, asked to {operation}, said what is no JSON: {line[:200]!r}")
        return answer

    def _line(self, operation: str) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._waiting:
            ready, _, _ = select.select([descriptor], [], [], self._limit)
            if not ready:
                self.close()
                raise RunnerDied(f"the ACL runner gave no answer within {self._limit:g} s, asked to {operation}")
            some = os.read(descriptor, 1 << 16)
            if not some:
                raise self._died(operation)
            self._waiting += some
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line

    def _died(self, operation: str) -> RunnerDied:
        """Why there is no answer."""
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
        """Whether it can be asked."""
        return not self._stderr.closed and self._process.poll() is None


def _ending(code: int | None) -> str:
    """How a process ended; an emulator passes a signal on, or ends with 128 and its number."""
    if code is None:
        return "closed its output"
    number = -code if code < 0 else code - 128
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(number).name}"
    return f"ended with {code}"
