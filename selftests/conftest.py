"""How selftests are run: beside each other or alone, and most with their workers in this process.

Also a copy of the suite in an empty folder, run on a script: what the tests of the plugin use.
"""

import contextlib
import copy
import fcntl
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import scipy.special  # noqa: F401  (in-process runs drop modules that they load first, and numpy loads only once)

# Loaded here, and so once for all of the suite's runs in this process.
from neverslower import cli, cli_maps, pytest_plugin, run  # noqa: F401
from neverslower.calibration import doctor, measuring
from neverslower.hunt import profiles
from neverslower.models import child
from neverslower.models.words import Input
from selftests import in_process
from selftests.support import children, eventually

ROOT = Path(__file__).resolve().parent.parent
PROBLEM = "mb1_ic4oc16_ih6kh3ph1"
"""Distances 1, 3, 4, 7, 8 and 15 of 16 channels."""
SHARED = "NEVERSLOWER_SELFTESTS"
"""Names the folder that xdist's processes share."""
DOORS = (run, cli, cli_maps, doctor, measuring)
"""Those who start workers for a user."""


class SuiteRunner:
    """Runs the product's tests on the scripted backend, in this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester, self.path = pytester, pytester.path
        shutil.copytree(ROOT / "tests", self.path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pytest.ini", self.path)
        pytester.makeconftest("pytest_plugins = ['neverslower.pytest_plugin']")

    def script(self, **script: Any) -> str:
        """The --backend argument of a script."""
        path = self.path / "script.json"
        path.write_text(json.dumps({"noise": 0.002} | script), encoding="utf-8")
        return f"scripted:{path}"

    def run(self, script: Mapping[str, Any], *arguments: str, problem: str = PROBLEM) -> pytest.RunResult:
        """Run the suite on a script; arguments are pytest's."""
        backend = self.script(**script)
        chosen = ("--problem", problem) if problem else ()
        return self.pytester.runpytest_inprocess("--backend", backend, *chosen, "-p", "no:cacheprovider", *arguments)

    def accept(self, script: Mapping[str, Any], *arguments: str) -> Path:
        """Store a run as baseline and return the file."""
        before = set(self.path.glob("baselines/*/*.json*"))
        result = self.run(script, "--accept-baseline", "first measurement", *arguments)
        assert result.ret in (0, 1), result.stdout.str()
        (added,) = set(self.path.glob("baselines/*/*.json*")) - before
        return added


profiles.register()


def pytest_configure(config: pytest.Config) -> None:
    """Give xdist's processes a folder to share, and each a TMPDIR of its own in it, where devices are locked."""
    number = os.environ.get("PYTEST_XDIST_WORKER")
    if number is None:
        os.environ[SHARED] = folder = tempfile.mkdtemp(prefix="selftests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    else:
        own = Path(os.environ[SHARED]) / number
        own.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run what is marked `alone` while none of xdist's processes runs another test."""
    alone = item.get_closest_marker("alone") is not None
    folder = Path(os.environ[SHARED])
    with contextlib.ExitStack() as held:
        # Who waits to be alone holds the turnstile meanwhile: no further test slips in before it.
        turnstile = held.enter_context((folder / "turnstile").open("w"))
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        room = held.enter_context((folder / "room").open("w"))
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(turnstile, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(autouse=True)
def as_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run prints is compared as people see it: under CI pytest repeats each failure in full at the end, and in
    xdist's processes pytest-benchmark records nothing.
    """
    for variable in ("CI", "BUILD_NUMBER", "GITHUB_STEP_SUMMARY", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """See that no process is left that was not there before."""
    before = children(os.getpid())
    yield
    assert eventually(lambda: children(os.getpid()) <= before)


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let what a user starts have its workers in this process, unless its script kills or hangs them, or the test is
    marked `processes`.
    """
    if request.node.get_closest_marker("processes") is None:
        for door in DOORS:
            monkeypatch.setattr(door, "Worker", in_process.start)


@pytest.fixture(scope="session")
def models_read() -> dict[tuple[object, ...], Mapping[str, Any]]:
    """What was found in models so far, empty at first.

    It is of the session, so that what tracing needs is loaded before a test's own pytester looks at what is: that drops
    all that was loaded since, and torch can't be loaded twice.
    """
    if find_spec("torch"):
        import torch

        torch.export.export(torch.nn.Conv2d(1, 1, 1), (torch.zeros(1, 1, 1, 1),))
    return {}


@pytest.fixture
def models_here(monkeypatch: pytest.MonkeyPatch, models_read: dict[tuple[object, ...], Mapping[str, Any]]) -> None:
    """Let users' modules be read in this process, each once: one of its own takes seconds to import torch."""
    if find_spec("torch") is None:
        return

    elsewhere = child.read

    def read(kind: str, text: str, inputs: Sequence[str], asked: str = child.LAYERS) -> Mapping[str, Any]:
        if kind != child.TORCH:  # A process can import onnx but once, and a run in this one drops what it imports.
            return elsewhere(kind, text, inputs, asked)
        path = Path(text.rpartition("=")[2].rpartition(":")[0] or text)
        key = (kind, text, tuple(inputs), asked, path.read_bytes() if path.is_file() else b"")
        if key not in models_read:
            with warnings.catch_warnings():
                found = child._answer(asked, kind, text, [Input.parse(shape) for shape in inputs])
            models_read[key] = json.loads(json.dumps(found))
        return copy.deepcopy(models_read[key])

    monkeypatch.setattr(child, "read", read)


@pytest.fixture
def runner(pytester: pytest.Pytester, workers_here: None) -> SuiteRunner:
    return SuiteRunner(pytester)
