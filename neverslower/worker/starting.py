"""Starts the process behind an execnet spec, knows it from its first moment, and ends it where it does not answer.

execnet lets a process inherit stderr, and hands it out once it has greeted: one that is stopped before that, or whose
connection hangs, would keep a run waiting for ever. So execnet starts processes by way of `Started`.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from subprocess import PIPE, Popen, TimeoutExpired
from types import SimpleNamespace
from typing import IO, Any

import execnet
from execnet.gateway_base import ThreadExecModel

LEAVING = 1.0
"""Seconds that a process whose pipes have closed may take to end by itself."""

# What execnet raises for a spec that it can't read, and for a place that it can't reach.
NO_WORKER = (
    OSError, ValueError, EOFError, LookupError, AttributeError, AssertionError, execnet.HostNotFound,
    execnet.RemoteError,
)  # fmt: skip


class Loading:
    """Knows the processes that some threads start, and ends them at once when nobody waits for them any more.

    A thread that starts one waits for it, for as long as its library takes to load or hangs: only the end of the
    process ends that.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._started: list[Started] = []

    def here(self) -> None:
        """Count from now on what the calling thread starts among these."""
        _THREAD.loading = self

    def add(self, started: Started) -> None:
        """Take in a process that has just been started; where that is over, end it."""
        with self._lock:
            self._started.append(started)
            over = self.ended.is_set()
        if over:
            started.kill()

    def end(self) -> None:
        """End every process, and each that is still to be started."""
        with self._lock:
            self.ended.set()
            started, self._started = self._started, []
        for process in started:
            process.kill()


_THREAD = threading.local()
"""Its `loading` is what the processes belong to that a thread starts."""


class Started(ThreadExecModel):  # type: ignore[misc]  # execnet has no types.
    """The one process that an execnet group starts; what it writes to stderr goes into a file."""

    def __init__(self, stderr: IO[bytes]) -> None:
        self._stderr = stderr
        self._process: Popen[bytes] | None = None
        self.late = False

    @property
    def subprocess(self) -> Any:
        """What execnet takes for the module of that name."""
        return SimpleNamespace(Popen=self._start, PIPE=PIPE)

    def _start(self, arguments: Sequence[str], **pipes: Any) -> Popen[bytes]:
        loading: Loading | None = getattr(_THREAD, "loading", None)
        if loading and loading.ended.is_set():
            raise OSError("it is needed no more")
        self._process = Popen(arguments, stderr=self._stderr, **pipes)
        if loading:
            loading.add(self)
        return self._process

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the process where the body takes longer, which ends whatever waits for it; it is `late` then."""
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        self.late = True
        self.kill()

    def kill(self) -> None:
        """End the process at once, if it was started and still runs."""
        if self._process and self._process.poll() is None:
            self._process.kill()

    def let_go(self) -> bool:
        """End a process that was not greeted, and close its pipes; return whether somebody else had killed it.

        Nothing in a process sends it SIGKILL: the kernel does where memory runs out, or a person.
        """
        if self._process is None:
            return False
        with contextlib.suppress(TimeoutExpired):
            self._process.wait(LEAVING)
        killed = self._process.poll() == -signal.SIGKILL and not self.late
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        return killed


def from_the_start(text: str) -> execnet.XSpec:
    """Return a spec whose variables the process has when it starts, by way of `env`.

    execnet sets them in a Python that runs already, which is too late for what the dynamic loader reads, as it does
    LD_LIBRARY_PATH. It sets them still, for the Python in a container has not got those of the command before it.
    """
    spec = execnet.XSpec(text)
    if spec.env and (spec.popen or spec.ssh):
        command = spec.python or (shlex.quote(sys.executable) if spec.popen else "python")
        variables = (shlex.quote(f"{name}={value}") for name, value in spec.env.items())
        spec.python = f"env {' '.join(variables)} {command}"
    return spec


def why_none(error: BaseException) -> str:
    """Return the error in one line, and in words where execnet only stumbled."""
    if isinstance(error, (LookupError, AttributeError, AssertionError)):
        return "this can't be read"
    return (str(error).strip().splitlines() or ["it ended at once"])[-1]
