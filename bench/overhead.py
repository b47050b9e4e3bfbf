"""Measure what a test costs besides its measuring: a thousand tests on scripted latencies, less the time of workers.

python -m bench.overhead
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from typing import Any

import pytest

from neverslower.worker.process import Worker

PROBLEMS = 53
"""Problems of 16 output channels: 6 pruned counts each, so 19 tests, 1,007 in all."""


def main() -> None:
    """Run the suite in this process and print the figures."""
    asked = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            nonlocal asked
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                asked += time.perf_counter() - begin

        return wrapper

    Worker._start = timed(Worker._start)  # type: ignore[method-assign]
    Worker._ask = timed(Worker._ask)  # type: ignore[method-assign]
    arguments = ["--backend", "scripted", "-q", "tests", "-p", "no:cacheprovider"]
    for channels in range(1, PROBLEMS + 1):
        arguments += ["--problem", f"mb1_ic{channels}oc16_ih3kh1ph0"]
    begin, output = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(output):
        code = pytest.main(arguments)
    wall = time.perf_counter() - begin
    closing = output.getvalue().strip().splitlines()[-1]
    tests, session = int(closing.split()[0]), float(closing.split()[-1].removesuffix("s"))
    print(f"{closing} (exit code {int(code)})")
    print(f"start-up {wall - session:.2f} s, session {session:.2f} s, of which workers {asked:.2f} s")
    print(f"overhead {1e3 * (session - asked) / tests:.2f} ms a test, of {tests}")


if __name__ == "__main__":
    main()
