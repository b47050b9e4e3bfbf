"""An option's value is never taken for a path to collect: every option of the suite, apart and joined by `=`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neverslower import pytest_root
from neverslower.option_table import OPTIONS
from selftests.support import ROOT, script

TAKING = [option for option in OPTIONS if option.keywords.get("action") != "store_true"]
PATHS = (
    "--resume",
    "--against",
    "--journal",
    "--baselines",
    "--onnx",
    "--problems",
    "--worker",
    "--pruned",
    "--hazards",
)


def test_every_option_that_takes_a_value_is_joined_to_it() -> None:
    flags = pytest_root.value_flags()
    for option in TAKING:
        assert pytest_root.joined(["-q", option.flag, "/etc", "tests"], flags) == ["-q", f"{option.flag}=/etc", "tests"]
        assert pytest_root.joined([f"{option.flag}=/etc", "tests"], flags) == [f"{option.flag}=/etc", "tests"]
    assert pytest_root.joined(["--explain", "tests"], flags) == ["--explain", "tests"]
    assert pytest_root.joined(["--resume", "-q"], flags) == ["--resume", "-q"]


def test_every_option_whose_value_is_a_path_is_tried() -> None:
    named = {option.flag for option in TAKING if option.keywords.get("metavar") in ("FILE", "DIR", "SPEC")}
    assert named == set(PATHS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the suite, and an environment's metadata that names the entry point as an installed one does."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pytest.ini", folder)
    (folder / "conftest.py").write_text("pytest_plugins = ['neverslower.pytest_plugin']\n", encoding="utf-8")
    installed = folder / "installed" / "stand_in-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n", encoding="utf-8")
    points = "[pytest11]\nnever-slower-root = neverslower.pytest_root\n"  # Where it is installed, this one is left out.
    (installed / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def collected(checkout: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """What a user sees who types these options in a checkout whose suite is installed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(checkout / "installed")])}
    command = [sys.executable, "-m", "pytest", *words, "--collect-only", "-q"]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.processes
@pytest.mark.parametrize("form", ["apart", "joined"])
def test_a_path_elsewhere_is_not_taken_for_the_root(checkout: Path, tmp_path: Path, form: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text('ic8oc8_ih8kh3n"own"\n', encoding="utf-8")
    (elsewhere / "hazards.toml").write_text("", encoding="utf-8")
    own = {"--baselines": elsewhere, "--hazards": elsewhere / "hazards.toml"}
    pairs = [(flag, str(own.get(flag, elsewhere / "file"))) for flag in PATHS]
    pairs.append(("--backend", f"scripted:{script(tmp_path, noise=0.002)}"))

    def words(*left_out: str) -> list[str]:
        chosen = [pair for pair in pairs if pair[0] not in left_out]
        return [word for flag, value in chosen for word in ([flag, value] if form == "apart" else [f"{flag}={value}"])]

    done = collected(checkout, words("--onnx", "--pruned"))
    assert done.returncode == 0, done.stderr
    assert "tests/test_never_slower.py::test_never_slower[scripted-own-" in done.stdout
    assert "not a whole ONNX file" in collected(checkout, words("--pruned")).stderr
    assert f"--pruned {elsewhere / 'file'} needs its one original" in collected(checkout, words("--onnx")).stderr


def test_outside_of_a_checkout_nothing_is_done(tmp_path: Path) -> None:
    assert pytest_root._checkout(tmp_path) is None
    assert pytest_root._checkout(ROOT / "tests") == ROOT
