"""The guides for boards: every command in them that needs no board is run, on scripted times."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from neverslower import cli
from selftests.conftest import SuiteRunner
from selftests.support import ROOT
from selftests.test_plugin import FLAT

GUIDES = [ROOT / "docs" / name for name in ("jetson.md", "mali.md")]
PYTHON = ".venv/bin/python -m "
NEEDS_A_BOARD = ("sudo ", "./config.sh ", "git add ")
SETS_UP = ("python3 tools/setup_environment.py .venv", f"{PYTHON}pip install ", f"{PYTHON}neverslower build-acl")
each = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)


def commands(guide: Path) -> list[str]:
    """Each line of an indented block, which is one command."""
    return [line[4:] for line in guide.read_text().splitlines() if line.startswith("    ")]


def of(kind: str) -> list[str]:
    """The guides' commands of one of the two programs, each once."""
    start = PYTHON + kind
    found = [one for guide in GUIDES for one in commands(guide) if one.startswith(f"{start} ")]
    return list(dict.fromkeys(one for one in found if not one.startswith(SETS_UP)))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for docker: it runs what a container would, here."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        f'#!/bin/sh\nwhile [ "$1" != python3 ]; do shift; done\nshift\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def scripted(runner: SuiteRunner, command: str, kind: str) -> list[str]:
    """The command's arguments, with a script in the place of the board."""
    words = shlex.split(command.removeprefix(PYTHON + kind))
    board = r"(cudnn|acl)(:.*)?"
    return [runner.script(**FLAT) if re.fullmatch(board, word) else word for word in words]


@each
def test_every_command_is_run_here_or_is_the_boards(guide):
    for command in commands(guide):
        assert command.startswith((*NEEDS_A_BOARD, *SETS_UP, f"{PYTHON}pytest ", f"{PYTHON}neverslower ")), command


@pytest.mark.parametrize("command", of("pytest"))
def test_a_command_that_measures_is_run(runner: SuiteRunner, docker, command: str) -> None:
    if "--benchmark-compare" in command:
        runner.accept(FLAT)
    words = scripted(runner, command, "pytest")
    small = [] if "--layer" in words else ["--problem", "mb1_ic4oc16_ih6kh3ph1"]
    result = runner.pytester.runpytest_inprocess(*words, *small, "-p", "no:cacheprovider")
    assert result.ret == 0
    if "--accept-baseline" in words:
        assert len(list(runner.path.glob("baselines/*/0001_*.json"))) == 1


@pytest.mark.parametrize("command", of("neverslower"))
def test_a_command_that_tells_is_run(runner: SuiteRunner, command: str, capsys) -> None:
    runner.accept(FLAT)
    assert cli.main(scripted(runner, command, "neverslower")) == 0
    assert capsys.readouterr().out


def test_there_are_such_commands():
    assert len(of("pytest")) == 10
    assert len(of("neverslower")) == 3


@each
def test_what_a_guide_names_of_this_project_is_there(guide):
    text = guide.read_text()
    names = re.findall(r"`((?:selftests|tools|\.github|docs)/[\w./-]+)`", text) + re.findall(r"\]\((\w+\.md)\)", text)
    assert names
    assert not [name for name in names if not ((ROOT / name).is_file() or (ROOT / "docs" / name).is_file())]
    assert not [
        extra
        for extra in re.findall(r"\.\[(\w+)\]", text)
        if f"\n{extra} = [" not in (ROOT / "pyproject.toml").read_text()
    ]


@each
def test_a_guide_says_that_no_board_was_at_hand(guide):
    assert "**No part of this was run on a" in guide.read_text()
