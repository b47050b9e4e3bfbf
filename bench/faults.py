"""Kill whole runs at random moments, resume them, and compare the end with that of an undisturbed run.

    python -m bench.faults --kills 200

A run is pytest on the scripted backend: hazards, noise, a layer that does not fit, confirmations, causes, outputs; in
two of three chains with another library (`--against`), in one of them alternating. It is killed at a random moment of
its time, or of what it writes to its journal; then `--resume` goes on with it and is killed too, until a run reaches
its end.

A verdict that the journal held at the kill must be there afterwards and be the undisturbed run's; one that a killed
worker cost must be CRASHED, and the run red. Nothing may be measured twice but half a pair, no exit code be 0 before
every verdict is there, and no process be left. Where that is not so the exit code is 1.

The draws are seeded; what happens at a drawn moment depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
MARK = "NEVER_SLOWER_FAULTS"
"""The environment variable that marks a run's processes, whoever their parent is by now."""
SCRIPT = {
    "exclusive": True,
    "noise": 0.004,
    "process_effect": 0.001,
    "rules": [
        {"seconds": 1e-5},
        {"when": "out_channels % 8 != 0", "times": 1.5},
        {"when": "out_channels == 8", "times": 0.5},
        {"when": "out_channels == 1", "fault": "out_of_memory"},
    ],
}


@dataclass(frozen=True)
class Way:
    """How a chain measures: pytest's arguments, and whether the device `waits`, so that two libraries take turns."""

    arguments: tuple[str, ...]
    waits: bool = False


SMALL = Way(("--problem=mb1_ic4oc16_ih6kh3ph1",))
ALONE = Way((*SMALL.arguments, "--problem=mb1_ic8oc16_ih5kh3ph1"))
BESIDE = Way((*SMALL.arguments, "--against=popen"))
IN_TURNS = Way(BESIDE.arguments, waits=True)
# A job in the background ignores Ctrl-C, and so would what it starts.
PYTEST = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import pytest; "
    "sys.exit(pytest.console_main())"
)
PATIENCE = 120.0
"""Seconds after which a run counts as hung."""
MOST_RUNS = 50
HERE, THERE = "now", "before"
"""The journal's words for the library under test and for the other one."""
GREEN = {"SAME", "FASTER"}
Key = tuple[str, str, str, str]
"""A question: (kind of event, library, reference, candidate)."""


class Kill(str, Enum):
    """Which process is killed, and how."""

    WORKER = "a worker, kill -9"
    PARENT = "the run, kill -9"
    TORN = "the run, kill -9, its last line torn"
    CTRL_C = "the run, Ctrl-C"
    TERM = "the run, SIGTERM"

    @property
    def signal(self) -> signal.Signals:
        """Return the signal to send."""
        return {Kill.CTRL_C: signal.SIGINT, Kill.TERM: signal.SIGTERM}.get(self, signal.SIGKILL)


@dataclass
class Tally:
    """Counts of what went wrong after so many kills.

    `held` counts the verdicts that the journal held at the kill, `lost` and `changed` those of them that were not there
    or another one afterwards, `cost` the verdicts that killed workers cost, `twice` what was measured twice, `left`
    processes that outlived their run, and `hung` runs that did not end. `messages` say how each verdict changed.
    """

    kills: int = 0
    held: int = 0
    lost: int = 0
    changed: int = 0
    wrong_greens: int = 0
    cost: int = 0
    twice: int = 0
    left: int = 0
    hung: int = 0
    messages: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))

    def change(self, key: Key, was: str, now: str) -> None:
        """Count a verdict that became another."""
        self.changed += 1
        self.messages.append(f"{' '.join(key)}: {was}, now {now}")

    @property
    def sound(self) -> bool:
        """Tell whether nothing went wrong."""
        return not (self.lost or self.changed or self.wrong_greens or self.twice or self.left or self.hung)


@dataclass
class Journalled:
    """The contents of a journal's whole lines: the last verdict of each question, and how often it was measured."""

    size: int = 0
    verdicts: dict[Key, str] = field(default_factory=dict)
    measured: Counter[tuple[Key, int]] = field(default_factory=Counter)
    begun: bool = False

    @classmethod
    def read(cls, path: Path) -> Journalled:
        """Read a journal, which may be absent; a torn line is passed over."""
        data = path.read_bytes() if path.exists() else b""
        journalled = cls(len(data))
        for line in data.splitlines():
            with contextlib.suppress(ValueError):
                journalled._add(json.loads(line))
        return journalled

    def _add(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        self.begun |= kind == "fingerprint"  # Before that there is nothing to go on with.
        question = kind, event.get("side", HERE), event.get("reference", ""), event.get("candidate", "")
        if kind in ("verdict", "agreement"):
            self.verdicts[question] = event["code"]
        elif kind == "measured":
            self.measured[question, event["pass"]] += 1


class Bench:
    """Makes runs in folders of their own below one; the first run is undisturbed, and its verdicts are right."""

    def __init__(self, folder: Path, way: Way) -> None:
        self._folder, self._way = folder, way
        folder.mkdir()
        begin = time.monotonic()
        run = _Run(folder / "undisturbed", way)
        code = run.process.wait(PATIENCE)
        self.seconds = time.monotonic() - begin
        self.right = Journalled.read(run.journal)
        if code or not self.right.verdicts:
            raise RuntimeError(f"the undisturbed run ended in {code}:\n{run.said()}")

    def chain(self, number: int, seed: int, kinds: Kinds) -> None:
        """Kill one run again and again while there are kills left to make, and resume it until it ends."""
        chance = random.Random(f"{seed}/{number}")
        last, crashes = Kill.PARENT, False
        for _ in range(MOST_RUNS):
            kind = kinds.take()
            run = _Run(self._folder / str(number), self._way)
            killed = kind is not None and self._kill(run, kind, chance)
            last = kind if kind and killed else last
            crashes |= killed and kind is Kill.WORKER
            tally = run.ended(self.right, kind if killed else None, chance, crashes)
            kinds.count(last, tally, None if killed else kind)
            if run.whole(self.right):
                return
        raise RuntimeError(f"chain {number} does not come to its end: {run.said()}")

    def _kill(self, run: _Run, kind: Kill, chance: random.Random) -> bool:
        """Kill at a random moment of what the run has left to do; return False where the run ended before."""
        left = 1 - len(run.before.measured) / len(self.right.measured)
        moment = time.monotonic() + chance.uniform(0, self.seconds * max(0.5, left))
        size = run.before.size + chance.randrange(1, int(self.right.size * max(0.3, left)))
        # A worker is idle for most of a run, and busy while the journal grows.
        by_time = chance.random() < (0.2 if kind is Kill.WORKER else 0.5)
        return run.kill(kind, lambda: time.monotonic() >= moment if by_time else run.written() >= size, chance)


class Kinds:
    """The kills that are yet to be made, and a tally for each kind; several threads use it."""

    def __init__(self, kills: int, seed: int, every: Sequence[Kill]) -> None:
        self._waiting = [every[number % len(every)] for number in range(kills)]
        random.Random(seed).shuffle(self._waiting)
        self._lock = threading.Lock()
        self.tallies = {kind: Tally() for kind in Kill}

    @property
    def done(self) -> bool:
        """Tell whether all kills were made."""
        return not self._waiting

    def take(self) -> Kill | None:
        """Take the next kill, None where none is left."""
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def count(self, kind: Kill, tally: Tally, again: Kill | None) -> None:
        """Count what a kill did, and put back the kind `again`, whose run ended before it was killed."""
        with self._lock:
            self.tallies[kind].add(tally)
            if again:
                self._waiting.insert(0, again)


def judged(held: Sequence[Journalled], now: Journalled, right: Journalled, code: int, crashes: bool) -> Tally:
    """Count what is wrong in the journal of a run that ended in `code`.

    `held` is what the journal held at earlier moments, at its begin first; `right` is what an undisturbed one holds.
    `crashes` says whether a worker was killed, which may leave a verdict open until another run draws it anew.
    """
    tally = Tally()
    for earlier in held:
        tally.lost += len(earlier.verdicts.keys() - now.verdicts.keys())
        for key, was in earlier.verdicts.items():
            if was != now.verdicts.get(key, was) and not (crashes and _cost(key, earlier.verdicts)):
                tally.change(key, was, now.verdicts[key])
    for key, verdict in now.verdicts.items():
        if verdict == right.verdicts.get(key):
            continue
        if crashes and _cost(key, now.verdicts):
            tally.cost += held[0].verdicts.get(key) != verdict
        else:
            tally.change(key, f"rightly {right.verdicts.get(key)}", verdict)
        tally.wrong_greens += verdict in GREEN
    before = held[0].measured
    again = [key for key, count in now.measured.items() if count > 1 and count > before[key]]
    tally.twice = sum(not _half(key, before, right.measured) for key in again)
    tally.wrong_greens += code == 0 and now.verdicts != right.verdicts
    return tally


def _half(measured: tuple[Key, int], before: Counter[tuple[Key, int]], right: Container[object]) -> bool:
    """Tell whether a pass had no partner of the other library when the run began.

    Such a pass is rightly measured again, together with its partner.
    """
    (kind, library, reference, candidate), number = measured
    partner = (kind, THERE if library == HERE else HERE, reference, candidate), number
    return partner in right and not before[partner]


def _cost(key: Key, verdicts: dict[Key, str]) -> bool:
    """Tell whether a killed worker may have cost this verdict: in the library under test it is CRASHED, which is red.

    The other library is then not measured there any more, so it may be UNDECIDED. A killed worker of the other library
    costs no verdict.
    """
    kind, library, reference, candidate = key
    crashed = verdicts.get((kind, HERE, reference, candidate)) == "CRASHED"
    return crashed and (library == HERE or verdicts[key] == "UNDECIDED")


class _Run:
    """One pytest process, which begins a journal or resumes it."""

    def __init__(self, folder: Path, way: Way) -> None:
        folder.mkdir(exist_ok=True)
        self.journal, self._output = folder / "journal.jsonl", folder / "output"
        self._mark = f"{MARK}={folder.name}-{os.getpid()}-{time.monotonic_ns()}"
        script = SCRIPT | {"waits": way.waits}
        (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
        self.before = self._held = Journalled.read(self.journal)
        self._bytes = self.journal.read_bytes() if self.before.size else b""
        mode = "--resume" if self.before.begun else "--journal"
        arguments = ["-q", "-p", "no:cacheprovider", "tests", "--backend", f"scripted:{folder / 'script.json'}"]
        arguments += [*way.arguments, f"--baselines={folder / 'baselines'}", f"{mode}={self.journal}"]
        self._page = folder / "page.md"
        self._page.unlink(missing_ok=True)
        added = dict([self._mark.split("=")]) | {"TMPDIR": str(folder), "GITHUB_STEP_SUMMARY": str(self._page)}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PYTEST, *arguments],
                cwd=ROOT,
                env=os.environ | added,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, kind: Kill, due: Callable[[], bool], chance: random.Random) -> bool:
        """Wait until it is `due`, and kill; return False where the run ended before."""
        while not due():
            if self.process.poll() is not None:
                return False
            time.sleep(0.0005)
        self._held = Journalled.read(self.journal)
        if kind is Kill.WORKER:
            return self._kill_a_worker(chance)
        if self.process.poll() is not None:
            return False
        os.killpg(self.process.pid, kind.signal)
        return True

    def _kill_a_worker(self, chance: random.Random) -> bool:
        """Kill one of the run's other processes as soon as there is one; the process that holds the lock counts."""
        while self.process.poll() is None:
            if others := sorted(self._alive()):
                try:
                    os.kill(chance.choice(others), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return True
        return False

    def _alive(self) -> Iterator[int]:
        """Yield the ids of the run's processes but pytest's own."""
        for path in PROC.glob("[0-9]*"):
            try:
                mine = self._mark.encode() in (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mine and int(path.name) != self.process.pid:
                yield int(path.name)

    def written(self) -> int:
        """Return the bytes of the journal."""
        return self.journal.stat().st_size if self.journal.exists() else 0

    def ended(self, right: Journalled, kind: Kill | None, chance: random.Random, crashes: bool) -> Tally:
        """Wait for the end, and count what is wrong then.

        `kind` is the kill that was made, if any; `crashes` says whether a worker of this chain was ever killed.
        """
        hung = False
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            hung = True
            self.process.kill()
            code = self.process.wait()
        left = self._left()
        if kind is Kill.TORN:
            self._tear(chance)
            self._held = Journalled.read(self.journal)
        now = Journalled.read(self.journal)
        tally = judged([self.before, *([self._held] if kind else [])], now, right, code, crashes)
        tally.kills, tally.hung, tally.left = int(kind is not None), int(hung), left
        tally.held = len(self._held.verdicts) if kind else 0
        if self.journal.exists() and not self.journal.read_bytes().startswith(self._bytes):
            tally.lost += 1  # What was written must stay as it is.
        page = self._page.read_text(encoding="utf-8") if self._page.exists() else ""
        tally.wrong_greens += "GREEN" in page and now.verdicts != right.verdicts
        return tally

    def _left(self) -> int:
        """Count the processes that outlive the run by ten seconds."""
        end = time.monotonic() + 10.0
        while (alive := len(list(self._alive()))) and time.monotonic() < end:
            time.sleep(0.02)
        return alive

    def _tear(self, chance: random.Random) -> None:
        """Cut the journal's last line at a random byte, unless that line was there when the run began."""
        data = self.journal.read_bytes() if self.journal.exists() else b""
        start = data.rstrip(b"\n").rfind(b"\n") + 1
        if start >= len(self._bytes) and start < len(data):
            os.truncate(self.journal, chance.randrange(start, len(data)))

    def whole(self, right: Journalled) -> bool:
        """Tell whether this run reached its end, with every verdict."""
        return self.process.returncode == 0 and Journalled.read(self.journal).verdicts == right.verdicts

    def said(self) -> str:
        """Return what the run printed."""
        return self._output.read_text(encoding="utf-8", errors="replace")


def kill_and_resume(
    folder: Path,
    kills: int,
    seed: int,
    jobs: int,
    ways: Sequence[Way],
    every: Sequence[Kill] = tuple(Kill),
) -> Kinds:
    """Make so many kills of these kinds, in chains, several at once; the chains alternate between the ways."""
    different = {way: Bench(folder / str(number), way) for number, way in enumerate(dict.fromkeys(ways))}
    benches = [different[way] for way in ways]
    kinds = Kinds(kills, seed, every)

    def work(job: int) -> None:
        number = job
        while not kinds.done:
            benches[number // jobs % len(benches)].chain(number, seed, kinds)
            number += jobs

    with ThreadPoolExecutor(jobs) as threads:
        for ended in [threads.submit(work, job) for job in range(jobs)]:
            ended.result()
    return kinds


def table(tallies: dict[Kill, Tally]) -> list[str]:
    """Return a Markdown table with a line for each kind of kill and one for all, and the verdicts that changed."""
    whole = Tally()
    for tally in tallies.values():
        whole.add(tally)
    names = [count.name for count in fields(Tally) if count.name != "messages"]
    lines = [f"| killed | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for title, tally in (*((str(kind.value), tally) for kind, tally in tallies.items()), ("all", whole)):
        lines.append(f"| {title} | {' | '.join(str(getattr(tally, name)) for name in names)} |")
    return lines + whole.messages


def main() -> int:
    """Kill, resume, print the table; return 1 where anything was lost, changed, wrongly green, or left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; default 2")
    names = [kill.name.lower() for kill in Kill]
    parser.add_argument("--kind", action="append", choices=names, help="kill only so (repeatable); default: each")
    parser.add_argument("--beside", action="store_true", help="measure beside another library in every chain")
    options = parser.parse_args()
    begin = time.monotonic()
    every = [Kill[name.upper()] for name in options.kind or names]
    ways = [BESIDE, IN_TURNS] if options.beside else [ALONE, BESIDE, IN_TURNS]
    with tempfile.TemporaryDirectory() as folder:
        kinds = kill_and_resume(Path(folder), options.kills, options.seed, options.jobs, ways, every)
    print("\n".join(table(kinds.tallies)))
    print(f"{options.kills} kills in {time.monotonic() - begin:.0f} s, seed {options.seed}")
    return 0 if all(tally.sound for tally in kinds.tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
