"""Compiling ahead on scripted compilers: every subject once, what fails is its own, and no worker is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neverslower.campaign import crowd
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.library import Library
from neverslower.campaign.resume import Recorded
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError, Unavailable, Unsupported, WorkerDied, WorkerError
from neverslower.evidence.observation import Examined
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code
from neverslower.problem.subject import Subject
from neverslower.worker.pool import ask_all
from neverslower.worker.process import Worker, WorkerSpec
from selftests import in_process
from selftests.support import ROOT, alive, children, comparison, eventually, needs_proc, problem, scripted

KEYS = [problem(channels).key for channels in range(16, 8, -1)]
pytestmark = [needs_proc, pytest.mark.usefixtures("no_child_left")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "compiled"
    path.mkdir()
    return path


class Compilers:
    """Compiles on scripted workers, and counts what is told meanwhile."""

    def __init__(self, tmp_path: Path, folder: Path) -> None:
        self.tmp_path, self.folder = tmp_path, folder
        self.told: list[int] = []

    def spec(self, *rules: dict[str, Any], **fields: Any) -> WorkerSpec:
        script = {"compiled": str(self.folder), "rules": [{"policy": "compile"} | rule for rule in rules]}
        return scripted(self.tmp_path, **script | fields)

    def run(
        self,
        spec: WorkerSpec,
        keys: list[str] = KEYS,
        processes: int = 1,
        progress: Callable[[int], None] | None = None,
        expired: Callable[[], bool] = lambda: False,
    ) -> dict[str, NeverSlowerError]:
        """Return what failed, though not what the library refuses."""
        answers = ask_all(spec, keys, processes, Worker.compile, progress or self.told.append, expired)
        return {
            key: answer
            for key, answer in answers.items()
            if isinstance(answer, NeverSlowerError) and not isinstance(answer, Unsupported)
        }

    def pids(self) -> list[int]:
        """Of each compiled subject, the process that compiled it."""
        texts = [path.read_text(encoding="utf-8") for path in self.folder.iterdir()]
        return [int(text) for text in texts if text]


@pytest.fixture
def compilers(tmp_path: Path, folder: Path) -> Compilers:
    return Compilers(tmp_path, folder)


def fault(channels: int, name: str, **fields: Any) -> dict[str, Any]:
    return {"when": f"out_channels == {channels}", "fault": name} | fields


def test_every_subject_is_compiled_once_and_counted(compilers: Compilers) -> None:
    subjects = [*KEYS, Subject(problem(), f"log:{KEYS[0]}/16/0").key]
    spec = compilers.spec()
    assert compilers.run(spec, subjects) == {}
    assert compilers.told == list(range(1, 10))
    assert len(compilers.pids()) == 9
    assert len(set(compilers.pids())) == 1
    with Worker(spec) as worker:
        assert worker.missing([*subjects, problem(3).key]) == [problem(3).key]


def test_several_processes_share_the_work(compilers: Compilers) -> None:
    def progress(done: int) -> None:
        """Holds the one that is ahead until the other has done something, too."""
        compilers.told.append(done)
        assert eventually(lambda: len(set(compilers.pids())) == 2)

    assert compilers.run(compilers.spec(), processes=2, progress=progress) == {}
    assert sorted(compilers.told) == list(range(1, 9))
    assert len(compilers.pids()) == 8
    assert os.getpid() not in compilers.pids()


def test_no_more_processes_than_subjects_are_started(compilers: Compilers) -> None:
    before, most = children(os.getpid()), []
    compilers.run(compilers.spec(), KEYS[:1], 5, lambda done: most.append(len(children(os.getpid()) - before)))
    assert most == [1]


@pytest.mark.parametrize(
    ("name", "kind", "words", "processes"),
    [
        ("crash", WorkerDied, "Segmentation fault", 1),
        ("crash", WorkerDied, "Segmentation fault", 2),
        ("hang_holding_gil", WorkerDied, "time limit of 1 s", 2),
        ("error", WorkerError, "RuntimeError: scripted error", 1),
    ],
)
def test_a_failure_costs_its_own_subject_only(
    compilers: Compilers, name: str, kind: type[Exception], words: str, processes: int
) -> None:
    failures = compilers.run(compilers.spec(fault(14, name), time_limit=1.0), processes=processes)
    assert list(failures) == [problem(14).key]
    assert isinstance(failures[problem(14).key], kind)
    assert words in str(failures[problem(14).key])
    assert len(compilers.pids()) == len(KEYS) - 1
    assert sorted(compilers.told) == list(range(1, 9))


def test_every_compiler_may_crash(compilers: Compilers) -> None:
    failures = compilers.run(compilers.spec({"fault": "crash"}), KEYS[:2])
    assert set(failures) == set(KEYS[:2])
    assert compilers.told == [1, 2]


def test_a_refusal_is_no_failure(compilers: Compilers) -> None:
    assert compilers.run(compilers.spec(fault(14, "unsupported"), fault(13, "out_of_memory"))) == {}
    assert len(compilers.pids()) == len(KEYS) - 2
    assert compilers.told == list(range(1, 9))
    assert len(set(compilers.pids())) == 1  # The worker is kept.


def test_a_fault_of_another_step_is_none_here(compilers: Compilers) -> None:
    spec = compilers.spec(fault(14, "crash", policy=""), fault(13, "crash", policy="tune"))
    assert compilers.run(spec) == {}
    assert len(compilers.pids()) == len(KEYS)


def test_no_more_time_ends_it_and_keeps_what_was_done(compilers: Compilers) -> None:
    assert compilers.run(compilers.spec(), expired=lambda: len(compilers.pids()) >= 3) == {}
    assert len(compilers.pids()) == 3
    assert compilers.told == [1, 2, 3]


def test_without_time_no_worker_is_started(compilers: Compilers) -> None:
    assert compilers.run(compilers.spec(unavailable="it would be told"), expired=lambda: True) == {}
    assert compilers.told == []


def test_where_no_worker_starts_the_backend_is_unavailable(compilers: Compilers) -> None:
    with pytest.raises(Unavailable, match="no such board"):
        compilers.run(compilers.spec(unavailable="no such board"), processes=2)


# Interrupted


@pytest.mark.parametrize(
    ("error", "hanging"), [(KeyboardInterrupt, []), (KeyboardInterrupt, [16]), (BrokenPipeError, [15])]
)
def test_an_exception_in_the_telling_ends_every_worker_at_once(
    compilers: Compilers, error: type[BaseException], hanging: list[int]
) -> None:
    """While the other process starts, or hangs, whichever of the two that is."""

    def progress(done: int) -> None:
        raise error

    spec = compilers.spec(*(fault(channels, "hang") for channels in hanging), time_limit=60.0)
    begin = time.monotonic()
    with pytest.raises(error):
        compilers.run(spec, processes=2, progress=progress)
    assert time.monotonic() - begin < 30
    assert len(compilers.pids()) < len(KEYS)


def test_a_worker_that_was_starting_when_it_was_interrupted_is_closed_unused(
    compilers: Compilers, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[WorkerSpec] = []
    closed: list[Worker] = []

    class Recorded(Worker):
        def __init__(self, spec: WorkerSpec) -> None:
            started.append(spec)
            if len(started) == 2:
                assert eventually(lambda: bool(closed))
            super().__init__(spec)

        def close(self) -> None:
            super().close()
            closed.append(self)

    def progress(done: int) -> None:
        assert eventually(lambda: len(started) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr("neverslower.worker.pool.Worker", Recorded)
    with pytest.raises(KeyboardInterrupt):
        compilers.run(compilers.spec(), processes=2, progress=progress)
    assert len(set(closed)) == 2
    assert len(compilers.pids()) == 1


INTERRUPTED = """
import signal
from neverslower.worker.pool import ask_all
from neverslower.worker.process import Worker, WorkerSpec
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored in what a shell starts in the background.
ask_all(WorkerSpec("scripted", {script!r}, time_limit=600), {keys!r}, 2, Worker.compile, print, lambda: False)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_or_killed_leaves_no_compiler(compilers: Compilers, number: signal.Signals) -> None:
    spec = compilers.spec({"fault": "hang"})
    code = INTERRUPTED.format(script=spec.argument, keys=KEYS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    workers: set[int] = set()
    try:
        assert eventually(lambda: len(children(process.pid)) == 2)
        workers = children(process.pid)
        assert not eventually(lambda: not all(map(alive, workers)), patience=0.3)
        os.killpg(process.pid, number)
        assert eventually(lambda: process.poll() is not None)
        assert process.returncode != 0
        assert eventually(lambda: not any(map(alive, workers)))
    finally:
        process.kill()
        process.communicate()
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)


def test_a_library_goes_on_where_no_compiler_starts_next_to_it(compilers: Compilers) -> None:
    """As on a GPU that takes one process at a time: what is not compiled ahead is compiled where it is prepared."""

    def start(spec: WorkerSpec, process: int = -1) -> Worker:
        if process < 0:
            raise Unavailable("the device is taken")
        return in_process.start(spec, process)

    lines: list[tuple[str, Mapping[str, Any]]] = []
    write = lambda event, fields: lines.append((event, fields))  # noqa: E731
    library = Library("scripted", compilers.spec(), Findings(), Recorded(), write, start=start)
    library.start()
    with crowd.Compiling(library, KEYS, lambda done, total: None, lambda: False):
        pass
    assert library.lost is None
    assert dict(lines)["compiled"]["reason"] == "the device is taken"
    assert isinstance(library.examiner.examine(KEYS[0]), Examined)
    library.close()


def library_of(spec: WorkerSpec, lines: list[tuple[str, Mapping[str, Any]]]) -> Library:
    library = Library("scripted", spec, Findings(), Recorded(), lambda event, fields: lines.append((event, fields)))
    library.start()
    return library


def quiet(done: int, total: int) -> None:
    pass


def interrupted(compiling: crowd.Compiling, keys: list[str]) -> None:
    with compiling:
        compiling.wait(keys)
        time.sleep(0.3)  # The next one is being compiled by now.
        raise KeyboardInterrupt


def test_who_waits_for_subjects_goes_on_once_they_are_compiled(compilers: Compilers) -> None:
    lines: list[tuple[str, Mapping[str, Any]]] = []
    hanging = compilers.spec({"when": "out_channels == 9", "fault": "hang"})
    library = library_of(replace(hanging, time_limit=600), lines)
    with pytest.raises(KeyboardInterrupt):  # The last one still compiles: nobody waits for it, and it has not failed.
        interrupted(crowd.Compiling(library, KEYS, quiet, lambda: False), KEYS[:-1])
    assert len(compilers.pids()) == len(KEYS) - 1
    assert not library.examiner.examined
    assert "compiled" not in dict(lines)
    library.close()


def test_a_map_is_examined_while_its_next_counts_are_compiled(compilers: Compilers) -> None:
    """As on a GPU, where nothing is timed meanwhile; each count was compiled when it is examined."""
    examined: list[str] = []

    class Gpu(in_process.InProcess):
        def __init__(self, spec: WorkerSpec, process: int = 0) -> None:
            super().__init__(spec, process)
            self.offers |= {"profiles"}

        def examine_together(self, keys: Sequence[str]) -> list[Examined | Failure]:
            examined.extend(keys)
            assert all((compilers.folder / f"{zlib.crc32(key.encode()):08x}").exists() for key in keys)
            return super().examine_together(keys)

    whole = problem(64)
    many = [comparison(64 - count, whole) for count in range(1, 64)]
    settings = Settings(passes=2, blocks=4, whole=True, explain_budget=0.0)
    found = Campaign({"scripted": compilers.spec()}, settings, start=Gpu).run(many)
    assert len(examined) == 64
    assert all(verdict.code.measured for verdict in found.verdicts.values())
    assert len(compilers.pids()) == 64


def test_what_fails_to_compile_is_examined_as_that_before_who_waits_goes_on(compilers: Compilers) -> None:
    lines: list[tuple[str, Mapping[str, Any]]] = []
    library = library_of(compilers.spec({"when": "out_channels == 15", "fault": "crash"}), lines)
    with crowd.Compiling(library, KEYS, quiet, lambda: False) as compiling:
        compiling.wait([KEYS[1]])
        answer = library.examiner.examined[KEYS[1]]
        assert isinstance(answer, Failure)
        assert answer.code is Code.CRASHED
        compiling.wait(KEYS)
    assert dict(lines)["compiled"]["failed"] == 1
    assert set(library.examiner.examined) == {KEYS[1]}
    library.close()
