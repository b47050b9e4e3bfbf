"""Measure what looking at a device's state costs: one look, and its share of a run whose journal is given.

python -m bench.state_cost [JOURNAL.jsonl …]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from neverslower.device.readers.host import Host
from neverslower.worker.process import Worker, WorkerSpec

LOOKS = 200


def main() -> None:
    """Print the figures."""
    host = Host()
    _print("a look", _timed(host.look))
    with Worker(WorkerSpec("scripted")) as worker:
        _print("asked of a worker", _timed(worker.state))
    for path in map(Path, sys.argv[1:]):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        looks = [line["seconds"] for line in lines if line["event"] == "state" and "seconds" in line]
        whole = sum(line["seconds"] for line in lines if line["event"] == "end")
        print(f"{path}: {len(looks)} looks, {1e3 * sum(looks):.0f} ms of {whole:.1f} s, {sum(looks) / whole:.2%}")


def _timed(look: Callable[[], object]) -> list[float]:
    """Return the seconds of each of LOOKS looks."""
    seconds = []
    for _ in range(LOOKS):
        begin = time.perf_counter()
        look()
        seconds.append(time.perf_counter() - begin)
    return seconds


def _print(what: str, seconds: list[float]) -> None:
    median, worst = statistics.median(seconds), max(seconds)
    print(f"{what}: {1e3 * median:.1f} ms (median of {len(seconds)}), {1e3 * worst:.1f} ms at most")


if __name__ == "__main__":
    main()
