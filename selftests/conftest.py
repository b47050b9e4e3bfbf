"""A copy of the suite in an empty folder, run on a script: what the tests of the plugin use."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import scipy.special  # noqa: F401  (in-process runs drop modules that they load first, and numpy loads only once)

from neverslower.hunt import profiles

ROOT = Path(__file__).resolve().parent.parent
PROBLEM = "mb1_ic4oc16_ih6kh3ph1"
"""Distances 1, 3, 4, 7, 8 and 15 of 16 channels."""


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
    """Give each of xdist's processes a TMPDIR of its own, where devices are locked."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = tempfile.mkdtemp(prefix="selftests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.fixture(autouse=True)
def as_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run prints is compared as people see it: under CI pytest repeats each failure in full at the end, and in
    xdist's processes pytest-benchmark records nothing.
    """
    for variable in ("CI", "BUILD_NUMBER", "GITHUB_STEP_SUMMARY", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def runner(pytester: pytest.Pytester) -> SuiteRunner:
    return SuiteRunner(pytester)
