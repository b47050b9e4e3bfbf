"""Workers: what they answer, how they fail, and that none is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends import scripted as backend
from neverslower.errors import OutOfMemory, Unavailable, Unsupported, WorkerDied, WorkerError
from neverslower.evidence.observation import Cache
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, DType, Side
from neverslower.worker import bootstrap, far_side
from neverslower.worker.far_side import FarSide
from neverslower.worker.process import DeviceLock, Worker, WorkerSpec, last_words
from neverslower.worker.starting import from_the_start
from selftests.support import ROOT, alive, children, eventually, needs_proc, problem, script, scripted

UNPRUNED = problem(16)
PRUNED = UNPRUNED.prune(3)
FAULT = "out_channels == 13"


def faulty(folder: Path, fault: str) -> WorkerSpec:
    return scripted(folder, time_limit=1.0, rules=[{"when": FAULT, "fault": fault}])


# What a worker answers


def test_opening_tells_the_fingerprint_and_the_clock(tmp_path: Path) -> None:
    spec = scripted(tmp_path, device="board", version="2.1", build="abc", state={"power": "MAXN"})
    with Worker(spec) as worker:
        found = worker.fingerprint
        assert worker.clock == "scripted"
    assert (found.backend, found.device, found.version, found.build) == ("scripted", "board", "2.1", "abc")
    assert found.state == {"power": "MAXN"}


def test_examining_checks_the_output_and_names_the_plan(tmp_path: Path) -> None:
    with Worker(scripted(tmp_path, rules=[{"plan": "padded", "seconds": 2e-5}])) as worker:
        found = worker.examine(PRUNED.key)
    assert (found.plan.name, found.plan.steps) == ("padded", ("convolution padded",))
    assert not found.wrong
    assert found.seconds_per_call == pytest.approx(2e-5)


def test_measuring_returns_blocks_of_two_rounds_of_each_side(tmp_path: Path) -> None:
    rules = [{"seconds": 1e-5}, {"when": FAULT, "times": 3.0}]
    with Worker(scripted(tmp_path, rules=rules)) as worker:
        found = worker.measure(UNPRUNED.key, PRUNED.key, 7)
    assert found.seconds.shape == (7, 2, 2)
    assert found.reference == pytest.approx(np.full(14, 1e-5))
    assert found.candidate == pytest.approx(np.full(14, 3e-5))
    assert found.clock == "scripted"


def far_side_of(source: str) -> dict[str, str]:
    """What is sent to a process whose far side is to be this text."""
    return {"neverslower.": "", "neverslower.worker.": "", "neverslower.worker.far_side": source}


@pytest.mark.parametrize(("process", "same"), [(0, True), (1, False)])
def test_the_samples_of_a_script_are_a_function_of_its_seed_and_the_process(
    tmp_path: Path, process: int, same: bool
) -> None:
    spec = scripted(tmp_path, seed=3, noise=0.05, process_effect=0.01, spikes=[0.1, 4.0])
    samples = []
    for number in (0, process):
        with Worker(spec, number) as worker:
            samples.append(worker.measure(UNPRUNED.key, PRUNED.key, 5).seconds)
    first, second = samples
    assert np.array_equal(first, second) is same


@pytest.mark.parametrize("side", list(Side))
def test_a_right_pruned_output_agrees_with_the_kept_channels(tmp_path: Path, side: Side) -> None:
    with Worker(scripted(tmp_path)) as worker:
        error, tolerance = worker.agree(UNPRUNED.key, UNPRUNED.prune(3, side).key)
    assert error <= tolerance


def test_one_worker_answers_again_after_a_refusal_and_an_error(tmp_path: Path) -> None:
    rules = [{"when": FAULT, "fault": "unsupported"}, {"when": "out_channels == 12", "fault": "error"}]
    with Worker(scripted(tmp_path, rules=rules)) as worker:
        with pytest.raises(Unsupported):
            worker.examine(PRUNED.key)
        with pytest.raises(WorkerError):
            worker.examine(problem(12).key)
        assert not worker.examine(UNPRUNED.key).wrong


def test_a_problem_against_itself_has_buffers_of_its_own() -> None:
    session = far_side.FarSide()
    session.open("scripted", "", 1, 0)
    for _ in range(2):
        session.measure(UNPRUNED.key, UNPRUNED.key, 2)
    session.measure(UNPRUNED.key, PRUNED.key, 2)
    assert vars(session.backend)["copies"] == {UNPRUNED.key: 2, PRUNED.key: 1}


THREE_TIMES = [{"seconds": 1e-7}, {"when": FAULT, "times": 3.0}]
"""Rules by which a call of the pruned layer takes three times as long, and a round many calls."""


def opened(folder: Path, **fields: Any) -> far_side.FarSide:
    """The far side on a script, in this process."""
    session = far_side.FarSide()
    session.open("scripted", str(script(folder, **fields)), 1, 0)
    return session


def sides(found: Mapping[str, Any]) -> list[float]:
    """The median seconds of the reference and of the candidate, as they are packed."""
    medians: list[float] = np.median(np.frombuffer(found["seconds"]).reshape(-1, 2, 2), axis=(0, 2)).tolist()
    return medians


def test_sides_keep_their_places_on_a_backend_that_does_not_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "CAPABILITIES", replace(backend.CAPABILITIES, watches=False))
    found = opened(tmp_path, rules=THREE_TIMES).measure(UNPRUNED.key, PRUNED.key, 3)
    assert sides(found) == pytest.approx([1e-7, 3e-7])
    assert found["iterations"][0] > found["iterations"][1]


def test_what_was_examined_is_measured_under_its_own_name(tmp_path: Path) -> None:
    session = opened(tmp_path, rules=THREE_TIMES)
    for one in (PRUNED, UNPRUNED):
        session.examine(one.key)
    assert sides(session.measure(UNPRUNED.key, PRUNED.key, 3)) == pytest.approx([1e-7, 3e-7])
    assert sides(session.measure(PRUNED.key, UNPRUNED.key, 3)) == pytest.approx([3e-7, 1e-7])


@pytest.mark.parametrize("candidate_first", [False, True])
def test_either_side_is_prepared_first_as_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate_first: bool
) -> None:
    session, prepared = opened(tmp_path), []
    prepare = session.backend.prepare

    def noted(one: ConvProblem, *arguments: Any) -> Any:
        prepared.append(one)
        return prepare(one, *arguments)

    monkeypatch.setattr(session.backend, "prepare", noted)
    for _ in range(2):
        session.measure(UNPRUNED.key, PRUNED.key, 2, candidate_first)
    order = [PRUNED, UNPRUNED] if candidate_first else [UNPRUNED, PRUNED]
    assert prepared == order
    session.measure(UNPRUNED.key, PRUNED.key, 2, not candidate_first)
    assert prepared == [*order, order[0]]  # What was first is now to be the later one.


@pytest.mark.parametrize("kind", ["hot", "cold"])
def test_samples_say_which_cache_their_calls_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(backend.Prepared, "cache", Cache(kind))
    session = opened(tmp_path)
    assert session.examine(PRUNED.key)["cache"]["kind"] == kind
    assert session.measure(UNPRUNED.key, PRUNED.key, 2)["cache"] == kind


def test_a_round_goes_through_all_buffers_of_what_is_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.Prepared, "least_iterations", 7)
    session = opened(tmp_path, rules=[{"seconds": 1.0}])
    assert session.measure(UNPRUNED.key, PRUNED.key, 2)["iterations"] == (7, 7)


# How it fails


@pytest.mark.parametrize("fault", ["wrong", "nan"])
def test_a_wrong_output_is_seen_when_examining_and_when_agreeing(tmp_path: Path, fault: str) -> None:
    with Worker(faulty(tmp_path, fault)) as worker:
        assert worker.examine(PRUNED.key).wrong
        assert not worker.examine(UNPRUNED.key).wrong
        error, tolerance = worker.agree(UNPRUNED.key, PRUNED.key)
    assert error > tolerance


@pytest.mark.parametrize("dtype", DType)
def test_an_output_is_held_to_its_own_dtypes_tolerance(tmp_path: Path, dtype: DType) -> None:
    """Just outside of it, in the last value alone; twice as much where two of the library's outputs are compared."""
    whole, part = (replace(one, dtype=dtype) for one in (UNPRUNED, PRUNED))
    tolerance = numerics.TOLERANCES[dtype]
    for off, of_the_reference, of_the_slice in ((0.7, False, False), (1.4, True, False), (2.8, True, True)):
        rule = {"when": f"out_channels == {part.out_channels}", "fault": "wrong", "off": off * tolerance}
        with Worker(scripted(tmp_path, rules=[rule])) as worker:
            assert worker.examine(part.key).wrong is of_the_reference
            error, limit = worker.agree(whole.key, part.key)
        assert (error > limit) is of_the_slice


def test_an_output_that_was_examined_is_compared_without_computing_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FarSide()
    session.open("scripted", scripted(tmp_path).argument, 1, 0)
    for one in (UNPRUNED, PRUNED):
        session.examine(one.key)
    monkeypatch.setattr(session.backend, "prepare", None)
    error, limit = session.agree(UNPRUNED.key, PRUNED.key)
    assert error <= limit


def test_what_a_pruned_producer_gives_is_computed_for_its_consumer(tmp_path: Path) -> None:
    """The unpruned layer must see zeros in the place of the channels removed, as no examined output does."""
    session = FarSide()
    session.open("scripted", scripted(tmp_path).argument, 1, 0)
    narrow = UNPRUNED.prune(3, Side.IN)
    for one in (UNPRUNED, narrow):
        session.examine(one.key)
    error, limit = session.agree(UNPRUNED.key, narrow.key)
    assert error <= limit


@pytest.mark.parametrize(
    ("fault", "hung", "headline"),
    [
        ("crash", False, "Fatal Python error: Segmentation fault"),
        ("hang", True, "Timeout (0:00:01)!"),
        ("hang_holding_gil", True, "Timeout (0:00:01)!"),
    ],
)
def test_last_words_say_how_a_worker_died_and_where(tmp_path: Path, fault: str, hung: bool, headline: str) -> None:
    with Worker(faulty(tmp_path, fault)) as worker:
        with pytest.raises(WorkerDied) as caught:
            worker.examine(PRUNED.key)
        assert caught.value.hung is hung
        assert headline in caught.value.last_words
        assert "scripted.py" in caught.value.last_words
        assert "_commit" in str(caught.value)
        with pytest.raises(WorkerDied):
            worker.examine(UNPRUNED.key)


def test_a_timeout_is_known_from_a_headline_before_the_frames_of_many_threads(tmp_path: Path) -> None:
    """A search that compiles on all cores left more frames than were read: an ended budget counted as a crash."""
    frames = "".join(f"Thread 0x{number:x}:\n" + '  File "nvrtc.py", line 1 in compile\n' * 9 for number in range(99))
    with Worker(scripted(tmp_path, rules=[])) as worker:
        worker._stderr.write(f"Timeout (0:00:23)!\n{frames}".encode())
        worker._stderr.flush()
        assert worker._died(23.0).hung


def test_a_timeout_that_a_library_logs_before_it_dies_is_none_of_the_workers(tmp_path: Path) -> None:
    with Worker(scripted(tmp_path, rules=[])) as worker:
        worker._stderr.write(b"Timeout (tracker 10.0.0.1)\nFatal Python error: Segmentation fault\n")
        worker._stderr.flush()
        died = worker._died(23.0)
    assert not died.hung
    assert str(died).startswith("the worker process died")


def test_a_crash_keeps_what_the_library_wrote_before_it(tmp_path: Path) -> None:
    with Worker(faulty(tmp_path, "crash")) as worker, pytest.raises(WorkerDied, match="signal 11 follows"):
        worker.examine(PRUNED.key)


@pytest.mark.parametrize(
    ("fault", "out_of_memory", "words"),
    [("unsupported", False, "scripted refusal of 13 channels"), ("out_of_memory", True, "bytes do not fit")],
)
def test_a_refusal_carries_the_librarys_words(tmp_path: Path, fault: str, out_of_memory: bool, words: str) -> None:
    with Worker(faulty(tmp_path, fault)) as worker, pytest.raises(Unsupported, match=words) as caught:
        worker.examine(PRUNED.key)
    assert isinstance(caught.value, OutOfMemory) is out_of_memory


def test_an_adapters_error_ends_in_its_tracebacks_last_line(tmp_path: Path) -> None:
    with Worker(faulty(tmp_path, "error")) as worker, pytest.raises(WorkerError) as caught:
        worker.examine(PRUNED.key)
    assert str(caught.value).endswith("RuntimeError: scripted error")


def test_the_end_of_a_hang_is_the_time_limit(tmp_path: Path) -> None:
    with Worker(faulty(tmp_path, "hang")) as worker, pytest.raises(WorkerDied, match="time limit of 1 s"):
        worker.examine(PRUNED.key)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("popen//python=/nowhere/python", "/nowhere/python"),
        ("carrier-pigeon", "carrier-pigeon"),
        (f"popen//python={sys.executable} -I -S", "No module named 'numpy'; install it there"),
    ],
)
def test_a_place_without_a_usable_python_is_unavailable_and_named(spec: str, words: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Worker(WorkerSpec("scripted", execnet=spec))
    assert words in str(caught.value)


def test_a_python_that_is_too_old_is_unavailable_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    channel = SimpleNamespace(receive=lambda: ({}, 0, {}), send=sent.append)
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 1))
    bootstrap.main(channel)
    now = ".".join(map(str, sys.version_info[:3]))
    assert sent == [("unavailable", f"it is Python {now}, and 99.1 or newer is needed")]
    monkeypatch.setattr("neverslower.worker.process.bootstrap", f"channel.receive(); channel.send({sent[0]!r})")
    with pytest.raises(Unavailable, match=rf"the Python of 'popen' can't run a worker: it is Python {now}, and"):
        Worker(WorkerSpec("scripted"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_that_ends_at_once_is_unavailable_and_named() -> None:
    with pytest.raises(Unavailable) as caught:
        Worker(WorkerSpec("scripted", execnet="popen//python=sh -c false"))
    assert "popen//python=sh -c false" in str(caught.value)
    # execnet drops the pipes of a process that it could not greet; they are to be collected here, not in a later test.
    del caught
    gc.collect()


def test_an_unavailable_backend_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such board"):
        Worker(scripted(tmp_path, unavailable="no such board"))


# Where it runs


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """The spec of a Python that finds numpy and the standard library only, started in an empty folder."""
    packages, folder = tmp_path / "packages", tmp_path / "empty"
    packages.mkdir()
    folder.mkdir()
    site = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    return f"popen//chdir={folder}//python=env PYTHONPATH={packages} {sys.executable} -S"


def test_a_worker_needs_numpy_and_not_the_checkout(bare: str, tmp_path: Path) -> None:
    spec = WorkerSpec("scripted", str(script(tmp_path, rules=[{"when": FAULT, "fault": "error"}])), execnet=bare)
    with Worker(spec) as worker:
        assert not worker.examine(UNPRUNED.key).wrong
        with pytest.raises(WorkerError) as caught:
            worker.examine(PRUNED.key)
    assert 'File "backends/scripted.py"' in str(caught.value)
    assert str(ROOT) not in str(caught.value)


def test_a_missing_vendor_library_is_named_with_its_remedy(bare: str) -> None:
    with pytest.raises(Unavailable, match=r"torch is not installed.*pip install torch"):
        Worker(WorkerSpec("onednn", execnet=bare))


def test_nothing_is_left_in_the_workers_folder(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with Worker(WorkerSpec("scripted", execnet=f"popen//chdir={folder}")) as worker:
        worker.measure(UNPRUNED.key, PRUNED.key, 2)
    assert list(folder.iterdir()) == []


STAND_IN = """
import os
def serve(channel):
    channel.send(("ready", (os.getpid(), os.getppid())))
    channel.receive()
    print("said on standard output", flush=True)
    software = {name: os.environ.get(name, "unset") for name in ("FOO", "OMP_NUM_THREADS")}
    fields = {"backend": "b", "device": "d", "version": "1", "build": "0", "software": software}
    plain = {"clock": "none", "exclusive": False, "offers": (), "lock": "none", "remarks": ()}
    plain |= {"evidence": "device_time", "at_once": 1, "shortest_round": 1e-3}
    channel.send(("ok", {"fingerprint": fields, **plain}))
    channel.receive()
    os._exit(3)
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A far side that tells its environment, writes to standard output and ends at the first question."""
    monkeypatch.setattr("neverslower.worker.process._sources", lambda: far_side_of(STAND_IN))


@pytest.mark.parametrize(
    "spec",
    [
        WorkerSpec("b", variables={"FOO": "1"}),
        WorkerSpec("b", execnet="popen//env:FOO=1"),
        WorkerSpec("b", execnet=f"popen//python=env FOO=1 {sys.executable}"),
    ],
    ids=["variables", "execnet env", "execnet python"],
)
def test_environment_variables_reach_the_worker(stand_in: None, spec: WorkerSpec) -> None:
    with Worker(spec) as worker:
        assert worker.fingerprint.software == {"FOO": "1", "OMP_NUM_THREADS": "1"}


LOADING = """
import ctypes, os
def serve(channel):
    channel.send(("ready", (os.getpid(), os.getppid())))
    channel.receive()
    try:
        ctypes.CDLL("libonly-here.so")
        found = "loaded"
    except OSError as error:
        found = str(error)
    fields = {"backend": "b", "device": "d", "version": "1", "build": found, "state": {"A": os.environ.get("A", "")}}
    plain = {"clock": "none", "exclusive": False, "offers": (), "lock": "none", "remarks": ()}
    plain |= {"evidence": "device_time", "at_once": 1, "shortest_round": 1e-3}
    channel.send(("ok", {"fingerprint": fields, **plain}))
    channel.receive()
"""


@needs_proc
@pytest.mark.parametrize(
    "python",
    ["", f"//python={sys.executable}", f"//python=env B=1 {sys.executable}"],
    ids=["this Python", "a Python", "a command"],
)
def test_the_loader_looks_where_the_spec_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, python: str) -> None:
    """LD_LIBRARY_PATH is read when a process starts; execnet sets variables later."""
    monkeypatch.setattr("neverslower.worker.process._sources", lambda: far_side_of(LOADING))
    folder = tmp_path / "lib raries"
    folder.mkdir()
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    (folder / "libonly-here.so").symlink_to(min(path for path in mapped if "/libm" in path or "/libc" in path))
    with Worker(WorkerSpec("b", execnet=f"popen{python}")) as worker:
        assert "libonly-here.so" in worker.fingerprint.build
    spec = f"popen{python}//env:LD_LIBRARY_PATH={folder}//env:A=it's 1"
    with Worker(WorkerSpec("b", execnet=spec)) as worker:
        assert worker.fingerprint.build == "loaded"
        assert worker.fingerprint.state == {"A": "it's 1"}


def test_variables_go_before_the_python_of_another_machine() -> None:
    spec = from_the_start("ssh=board//python=python3.10//env:LD_LIBRARY_PATH=/opt/acl lib//env:A=1")
    assert spec.python == "env 'LD_LIBRARY_PATH=/opt/acl lib' A=1 python3.10"
    assert from_the_start("ssh=board//env:A=1").python == "env A=1 python"
    assert from_the_start("ssh=board").python is None
    assert from_the_start("popen//python=python3").python == "python3"


DOCKER = """\
#!/bin/sh
# Takes what docker's command line would: run -i --rm -e NAME IMAGE COMMAND …
echo "$@" >> {asked}
test "$1 $2 $3 $4" = "run -i --rm -e" && test -n "$A" || exit 125
shift 6
command=$1; shift
test "$command" = python3 && exec {python} "$@"
"""


@needs_proc
def test_a_container_is_a_command_with_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_child_left: None
) -> None:
    docker, asked = tmp_path / "bin" / "docker", tmp_path / "asked"
    docker.parent.mkdir()
    docker.write_text(DOCKER.format(asked=asked, python=sys.executable), encoding="utf-8")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    spec = "popen//python=docker run -i --rm -e A old:1.0 python3//env:A=1"
    with Worker(WorkerSpec("scripted", str(script(tmp_path)), execnet=spec)) as worker:
        assert not worker.examine(UNPRUNED.key).wrong
        assert worker.measure(UNPRUNED.key, PRUNED.key, 2).seconds.shape == (2, 2, 2)
    (line,) = asked.read_text(encoding="utf-8").splitlines()
    assert line.startswith("run -i --rm -e A old:1.0 python3 -u -c import sys;")


def test_what_a_library_prints_is_part_of_the_last_words(stand_in: None) -> None:
    with Worker(WorkerSpec("b")) as worker, pytest.raises(WorkerDied, match="said on standard output") as caught:
        worker.examine(UNPRUNED.key)
    assert not caught.value.hung


# No process is left


@needs_proc
@pytest.mark.parametrize("spec", ["popen", f"popen//python=env FOO=1 {sys.executable}"])
def test_closing_ends_the_process(no_child_left: None, spec: str) -> None:
    before = children(os.getpid())
    with Worker(WorkerSpec("scripted", execnet=spec)):
        assert len(children(os.getpid()) - before) == 1


@needs_proc
def test_an_exception_in_the_body_ends_the_process(no_child_left: None) -> None:
    with pytest.raises(ZeroDivisionError), Worker(WorkerSpec("scripted")):
        raise ZeroDivisionError


@needs_proc
def test_a_backend_that_is_unavailable_leaves_no_process(no_child_left: None, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Worker(scripted(tmp_path, unavailable="no such board"))


@needs_proc
def test_a_worker_killed_in_silence_is_dead_without_last_words(no_child_left: None) -> None:
    before = children(os.getpid())
    with Worker(WorkerSpec("scripted")) as worker:
        for pid in children(os.getpid()) - before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            worker.examine(UNPRUNED.key)
    assert (caught.value.last_words, caught.value.hung) == ("", False)
    assert "died without a message" in str(caught.value)


@needs_proc
@pytest.mark.parametrize("fault", ["crash", "hang_holding_gil"])
def test_a_dead_or_hung_worker_leaves_no_process(no_child_left: None, tmp_path: Path, fault: str) -> None:
    with Worker(faulty(tmp_path, fault)) as worker, pytest.raises(WorkerDied):
        worker.examine(PRUNED.key)


COMPILER = """
import os, subprocess
def serve(channel):
    channel.send(("ready", (os.getpid(), os.getppid())))
    channel.receive()
    compiler = subprocess.Popen(["sleep", "600"])
    fields = {"backend": "b", "device": "d", "version": "1", "build": str(compiler.pid)}
    plain = {"clock": "none", "exclusive": False, "offers": (), "lock": "none", "remarks": ()}
    plain |= {"evidence": "device_time", "at_once": 1, "shortest_round": 1e-3}
    channel.send(("ok", {"fingerprint": fields, **plain}))
    channel.receive()
"""


@needs_proc
def test_closing_ends_what_the_worker_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverslower.worker.process._sources", lambda: far_side_of(COMPILER))
    with Worker(WorkerSpec("b")) as worker:
        compiler = int(worker.fingerprint.build)
        assert alive(compiler)
    ended = eventually(lambda: not alive(compiler))
    if not ended:
        os.kill(compiler, signal.SIGKILL)
    assert ended


COORDINATOR = """
import signal, sys, time
from neverslower.worker.process import Worker, WorkerSpec
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored in what a shell starts in the background.
with Worker(WorkerSpec("scripted", {script!r}, time_limit=600)) as worker:
    print("ready", flush=True)
    {then}
"""
SLEEP = "time.sleep(600)"
EXAMINE = f"worker.examine({PRUNED.key!r})"
Start = Callable[..., tuple["subprocess.Popen[bytes]", set[int]]]


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that holds a worker; returns it and the workers that it started."""
    started: list[subprocess.Popen[bytes]] = []
    workers: set[int] = set()

    def start(then: str, fault: str) -> tuple[subprocess.Popen[bytes], set[int]]:
        path = script(tmp_path, rules=[{"when": FAULT, "fault": fault}])
        code = COORDINATOR.format(script=str(path), then=then)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        workers.update(children(process.pid))
        return process, set(workers)

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for pid in filter(alive, workers):
        os.kill(pid, signal.SIGKILL)


@needs_proc
@pytest.mark.parametrize(
    ("then", "fault"),
    [(SLEEP, "error"), (EXAMINE, "hang"), (EXAMINE, "hang_holding_gil")],
    ids=["idle", "hanging", "hanging with the interpreter's lock"],
)
def test_a_killed_coordinator_takes_its_worker_along(coordinator: Start, then: str, fault: str) -> None:
    process, workers = coordinator(then, fault)
    assert len(workers) == 1
    assert not eventually(lambda: not all(map(alive, workers)), patience=0.3)
    process.kill()
    assert eventually(lambda: not any(map(alive, workers)))


@needs_proc
@pytest.mark.parametrize(("then", "fault"), [(SLEEP, "error"), (EXAMINE, "hang_holding_gil")], ids=["idle", "hanging"])
def test_ctrl_c_ends_the_worker_and_the_coordinator(coordinator: Start, then: str, fault: str) -> None:
    process, workers = coordinator(then, fault)
    assert len(workers) == 1
    os.killpg(process.pid, signal.SIGINT)
    assert eventually(lambda: process.poll() is not None)
    assert process.returncode != 0
    assert not any(map(alive, workers))


@needs_proc
def test_ctrl_c_does_not_reach_the_worker_itself(coordinator: Start) -> None:
    process, workers = coordinator(SLEEP, "error")
    assert all(os.getpgid(pid) == pid != process.pid for pid in workers)


# The device's lock


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(far_side, "LOCK_PATIENCE", 0.05)
    return tmp_path


@pytest.fixture
def holder(locks: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of the device `Board 7`."""
    code = textwrap.dedent("""
        import time
        from neverslower.worker.far_side import lock_device
        lock_device("Board 7")
        print("held", flush=True)
        time.sleep(600)
    """)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_on_a_device_is_refused_and_told_which(holder: subprocess.Popen[bytes], locks: Path) -> None:
    with pytest.raises(Unavailable, match="Board 7") as caught:
        far_side.lock_device("Board 7")
    assert str(locks / "never-slower-board-7.lock") in str(caught.value)


def test_another_device_is_free(holder: subprocess.Popen[bytes]) -> None:
    os.close(far_side.lock_device("Board 8"))


def test_a_lock_ends_with_its_process(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    os.close(far_side.lock_device("Board 7"))


# Last words

CRASH = """\
warning: something earlier
second line
Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/opt/lib/site-packages/execnet/gateway_base.py", line 534 in read
  File "<string>", line 1 in <module>

Current thread 0x00007f2 (most recent call first):
  File "backends/cudnn.py", line 80 in run
  File "neverslower/worker/far_side.py", line 71 in examine
  File "/opt/lib/site-packages/execnet/gateway_base.py", line 1296 in executetask

Extension modules: numpy._core._multiarray_umath, torch._C (total: 2)
"""


def test_last_words_of_a_crash_begin_near_its_headline_and_leave_out_execnet() -> None:
    assert last_words(CRASH).splitlines() == [
        "warning: something earlier",
        "second line",
        "Fatal Python error: Segmentation fault",
        "Current thread 0x00007f2 (most recent call first):",
        '  File "backends/cudnn.py", line 80 in run',
        '  File "neverslower/worker/far_side.py", line 71 in examine',
    ]


def test_last_words_are_those_of_the_last_headline() -> None:
    hang = 'Timeout (0:00:02)!\nThread 0x1 (most recent call first):\n  File "acl.py", line 3 in run\n'
    words = last_words(CRASH + "a\nb\nc\n" + hang)
    assert words.splitlines()[:3] == ["b", "c", "Timeout (0:00:02)!"]
    assert words.endswith("line 3 in run")


def test_without_a_headline_the_last_lines_are_kept() -> None:
    text = "".join(f"line {number}\n\n" for number in range(30)) + "terminate called: std::bad_alloc\n"
    words = last_words(text).splitlines()
    assert words[-1] == "terminate called: std::bad_alloc"
    assert words[0] == "line 23"
    assert len(words) == 8


def test_one_who_said_nothing_has_no_last_words() -> None:
    assert last_words("\n \n") == ""


def test_a_device_is_kept_from_other_runs_until_its_run_ends(no_child_left: None) -> None:
    spec = WorkerSpec("scripted")
    with DeviceLock(spec, "Board of the lock's test"):
        with pytest.raises(Unavailable, match="another never-slower run is using Board of the lock's test"):
            DeviceLock(spec, "Board of the lock's test")
    DeviceLock(spec, "Board of the lock's test").close()
