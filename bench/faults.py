"""Whole runs killed at random moments, gone on with, and held against the undisturbed run.

    python -m bench.faults --kills 200

A run is pytest on the scripted backend: hazards, noise, a layer that does not fit, confirmations, causes, outputs; in
two of three chains beside another library, in one of them by turns. It is killed at a random moment of its time, or of
what it writes to its journal; then `--resume` goes on with it, and is killed in turn, until a run reaches its end.

A verdict that the journal held at the kill must be there afterwards and be the undisturbed run's; one that a killed
worker cost must be CRASHED, and the run red. Nothing may be measured twice but half a pair, no exit code be 0 before
every verdict is there, and no process be left.
Fails (exit code 1) where that is not so.

The draws are seeded; what a moment meets is not, since it depends on the machine.
"""

from __future__ import annotations

import argparse
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
"""The variable by which a run's processes are known, whoever is their parent by now."""
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
"""A run that takes longer hangs."""
MOST_RUNS = 50
HERE, THERE = "now", "before"
"""The sides: of the library under test, and of the other one."""
GREEN = {"SAME", "FASTER"}
Key = tuple[str, str, str, str]


class Kill(str, Enum):
    """Who is killed, and how."""

    WORKER = "a worker, kill -9"
    PARENT = "the run, kill -9"
    TORN = "the run, kill -9, its last line torn"
    CTRL_C = "the run, Ctrl-C"
    TERM = "the run, SIGTERM"

    @property
    def signal(self) -> signal.Signals:
        """What is sent."""
        return {Kill.CTRL_C: signal.SIGINT, Kill.TERM: signal.SIGTERM}.get(self, signal.SIGKILL)


@dataclass
class Tally:
    """What so many kills did: `held` are the verdicts that the journal held then, `cost` what workers cost.

    `told` says of each verdict that changed what it was and is.
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
    told: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another's too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def change(self, key: Key, was: str, now: str) -> None:
        """Count a verdict that became another."""
        self.changed += 1
        self.told.append(f"{' '.join(key)}: {was}, now {now}")

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.changed or self.wrong_greens or self.twice or self.left or self.hung)


@dataclass
class Journalled:
    """What the whole lines of a journal hold: the last verdict of each question, and how often each was measured."""

    size: int = 0
    verdicts: dict[Key, str] = field(default_factory=dict)
    measured: Counter[tuple[Key, int | None]] = field(default_factory=Counter)
    begun: bool = False

    @classmethod
    def read(cls, path: Path) -> Journalled:
        """A journal, which may be absent."""
        data = path.read_bytes() if path.exists() else b""
        found = cls(len(data))
        for line in data.splitlines():
            try:
                found._add(json.loads(line))
            except ValueError:
                continue  # Torn.
        return found

    def _add(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        self.begun |= kind == "fingerprint"  # Before that there is nothing to go on with.
        question = kind, event.get("side", HERE), event.get("reference", ""), event.get("candidate", "")
        if kind in ("verdict", "agreement"):
            self.verdicts[question] = event["code"]
        elif kind in ("measured", "confirmed"):
            self.measured[question, event["pass"] if kind == "measured" else None] += 1


class Bench:
    """Runs in folders of their own below one; the first, undisturbed one says what is right."""

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
        """One run, killed again and again as long as there are kinds of kills to be tried, until it ends."""
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
        """Kill at a moment drawn from what a run may have left; False where the run ended before."""
        left = 1 - len(run.before.measured) / len(self.right.measured)
        moment = time.monotonic() + chance.uniform(0, self.seconds * max(0.5, left))
        size = run.before.size + chance.randrange(1, int(self.right.size * max(0.3, left)))
        # A worker waits for most of a run; while the journal grows it is at work.
        by_time = chance.random() < (0.2 if kind is Kill.WORKER else 0.5)
        return run.kill(kind, lambda: time.monotonic() >= moment if by_time else run.written() >= size, chance)


class Kinds:
    """The kills that are yet to be made, and what those that were made did; several threads take them."""

    def __init__(self, kills: int, seed: int, every: Sequence[Kill]) -> None:
        self._waiting = [every[number % len(every)] for number in range(kills)]
        random.Random(seed).shuffle(self._waiting)
        self._lock = threading.Lock()
        self.tallies = {kind: Tally() for kind in Kill}

    @property
    def done(self) -> bool:
        """Whether all were made."""
        return not self._waiting

    def take(self) -> Kill | None:
        """The next one, if any is left."""
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def count(self, kind: Kill, tally: Tally, again: Kill | None) -> None:
        """What a kill did; where its run ended before it, it is to be made again."""
        with self._lock:
            self.tallies[kind].add(tally)
            if again:
                self._waiting.insert(0, again)


def judged(held: Sequence[Journalled], now: Journalled, right: Journalled, code: int, crashes: bool) -> Tally:
    """What is wrong in the journal of a run that ended in `code`.

    `held` is what it held at moments before, `right` what an undisturbed one holds; `crashes` says whether a worker was
    killed, which may leave a verdict open until another run draws it anew.
    """
    found = Tally()
    for verdicts in (one.verdicts for one in held):
        found.lost += len(verdicts.keys() - now.verdicts.keys())
        for key, was in verdicts.items():
            if was != now.verdicts.get(key, was) and not (crashes and _cost(key, verdicts)):
                found.change(key, was, now.verdicts[key])
    for key, verdict in now.verdicts.items():
        if verdict == right.verdicts.get(key):
            continue
        if crashes and _cost(key, now.verdicts):
            found.cost += held[0].verdicts.get(key) != verdict
        else:
            found.change(key, f"rightly {right.verdicts.get(key)}", verdict)
        found.wrong_greens += verdict in GREEN
    before = held[0].measured
    again = [key for key, count in now.measured.items() if count > 1 and count > before[key]]
    found.twice = sum(not _half(key, before, right.measured) for key in again)
    found.wrong_greens += code == 0 and now.verdicts != right.verdicts
    return found


def _half(measured: tuple[Key, int | None], before: Counter[tuple[Key, int | None]], right: Container[object]) -> bool:
    """Whether a pass had no partner of the other library when the run began: then both are measured again, together."""
    (kind, side, *pair), number = measured
    partner = (kind, THERE if side == HERE else HERE, *pair), number
    return partner in right and not before[partner]


def _cost(key: Key, verdicts: dict[Key, str]) -> bool:
    """Whether a killed worker may have cost this verdict: it is CRASHED, which is red, in the library under test.

    The other library is then measured no more there. A killed worker of its own costs it nothing.
    """
    kind, _, *pair = key
    return verdicts.get((kind, HERE, *pair)) == "CRASHED" and (key[1] == HERE or verdicts[key] == "UNDECIDED")


class _Run:
    """One pytest process, which begins a journal or goes on with it."""

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
        """Wait for the moment, and kill; False where the run ended before."""
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
        """Kill one of the run's other processes as soon as there is one; the lock's is among them."""
        while self.process.poll() is None:
            if others := sorted(self._alive()):
                try:
                    os.kill(chance.choice(others), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return True
        return False

    def _alive(self) -> Iterator[int]:
        """The run's processes beside pytest's own."""
        for path in PROC.glob("[0-9]*"):
            try:
                mine = self._mark.encode() in (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mine and int(path.name) != self.process.pid:
                yield int(path.name)

    def written(self) -> int:
        """The bytes of the journal."""
        return self.journal.stat().st_size if self.journal.exists() else 0

    def ended(self, right: Journalled, kind: Kill | None, chance: random.Random, crashes: bool) -> Tally:
        """Wait for the end, and count what is wrong then; `crashes` says whether a worker of this chain was killed."""
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
        found = judged([self.before, *([self._held] if kind else [])], now, right, code, crashes)
        found.kills, found.hung, found.left = int(kind is not None), int(hung), left
        found.held = len(self._held.verdicts) if kind else 0
        if self.journal.exists() and not self.journal.read_bytes().startswith(self._bytes):
            found.lost += 1  # What was written must stay as it is.
        page = self._page.read_text(encoding="utf-8") if self._page.exists() else ""
        found.wrong_greens += "GREEN" in page and now.verdicts != right.verdicts
        return found

    def _left(self) -> int:
        """How many processes outlive the run by more than a moment."""
        end = time.monotonic() + 10.0
        while (alive := len(list(self._alive()))) and time.monotonic() < end:
            time.sleep(0.02)
        return alive

    def _tear(self, chance: random.Random) -> None:
        """Cut the last line at any of its bytes, unless it was there when the run began."""
        data = self.journal.read_bytes() if self.journal.exists() else b""
        start = data.rstrip(b"\n").rfind(b"\n") + 1
        if start >= len(self._bytes) and start < len(data):
            os.truncate(self.journal, chance.randrange(start, len(data)))

    def whole(self, right: Journalled) -> bool:
        """Whether this run reached its end, with every verdict."""
        return self.process.returncode == 0 and Journalled.read(self.journal).verdicts == right.verdicts

    def said(self) -> str:
        """What it printed."""
        return self._output.read_text(encoding="utf-8", errors="replace")


def kill_and_resume(
    folder: Path,
    kills: int,
    seed: int,
    jobs: int,
    ways: Sequence[Way],
    every: Sequence[Kill] = tuple(Kill),
) -> Kinds:
    """Make so many kills of these kinds, in chains, several at once, that measure in one of these ways by turns."""
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
    """A line a kind of kill, and one for all."""
    whole = Tally()
    for one in tallies.values():
        whole.add(one)
    names = [one.name for one in fields(Tally) if one.name != "told"]
    lines = [f"| killed | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for title, one in (*((str(kind.value), tally) for kind, tally in tallies.items()), ("all", whole)):
        lines.append(f"| {title} | {' | '.join(str(getattr(one, name)) for name in names)} |")
    return lines + whole.told


def main() -> int:
    """Kill, go on, print the table; 1 where anything was lost, changed, wrongly green, or left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; default 2")
    names = [one.name.lower() for one in Kill]
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
    return 0 if all(one.sound for one in kinds.tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
