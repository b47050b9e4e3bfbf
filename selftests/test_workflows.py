"""The workflows, read as text: what they may do, what starts them, and that the commands in them can be run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from packaging.version import Version

import backends
from selftests.conftest import SuiteRunner
from selftests.support import ROOT
from selftests.test_plugin import FLAT, outcomes

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOSTED, SELF_HOSTED = (ROOT / ".github/workflows" / name for name in ("hosted.yml", "self-hosted.yml"))
LOWEST = ROOT / "constraints-lowest.txt"
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def commands(path: Path) -> list[str]:
    """What the `run` keys of a workflow hold, a command a line, continued lines joined."""
    text = path.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^( +)(?:- )?run: (\|\n(?:\1 +.*\n)+|.*\n)", text, flags=re.MULTILINE)
    lines = [line.strip() for _, block in blocks for line in block.removeprefix("|\n").splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def under(path: Path, key: str) -> str:
    """The indented lines below a key at the left margin."""
    (found,) = re.findall(rf"^{key}:\n((?:[ #].*\n|\n)+)", path.read_text(), flags=re.MULTILINE)
    return str(found)


@each
def test_every_action_is_pinned_by_its_digest_with_its_version(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in used)


@each
def test_a_workflow_may_read_the_code_and_no_more(path):
    assert under(path, "permissions").split() == ["contents:", "read"]
    assert path.read_text().count("permissions:") == 1
    assert path.read_text().count("persist-credentials: false") == path.read_text().count("actions/checkout@")
    assert "secrets." not in path.read_text()


@each
def test_no_expression_is_pasted_into_a_shell(path):
    assert not [one for one in commands(path) if "${{" in one]


def test_no_pull_request_reaches_a_board():
    assert re.findall(r"^  (\w+):", under(SELF_HOSTED, "on"), flags=re.MULTILINE) == [
        "workflow_dispatch",
        "schedule",
        "push",
    ]
    assert "branches: [main]" in under(SELF_HOSTED, "on")
    assert "self-hosted" not in HOSTED.read_text()


def test_a_change_of_library_pins_starts_the_devices():
    (listed,) = re.findall(r"paths: \[(.*)\]", SELF_HOSTED.read_text())
    assert all((ROOT / name).is_file() for name in listed.split(", "))
    assert "constraints.txt" in listed


def test_the_matrix_names_backends_extras_and_labels_that_exist():
    rows = re.findall(
        r"- device: (.*)\n +labels: \[self-hosted, (.*)\]\n +backend: (.*)\n +extra: (.*)\n", SELF_HOSTED.read_text()
    )
    assert [device for device, *_ in rows] == [label for _, label, *_ in rows] == ["jetson-orin", "mali"]
    assert f"labels: [{', '.join(device for device, *_ in rows)}]" in (ROOT / ".github/actionlint.yaml").read_text()
    assert all(backend.partition(":")[0] in backends.TABLE for *_, backend, _ in rows)
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, flags=re.MULTILINE) for *_, extra in rows)


def test_what_a_device_runs_measures_compares_and_keeps_its_files(runner: SuiteRunner, monkeypatch) -> None:
    """The command of the workflow, on a script instead of a board."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path / "page.md"))
    (command,) = [one for one in commands(SELF_HOSTED) if "-m pytest" in one]
    backend = runner.script(**FLAT)
    runner.accept(FLAT)
    (runner.path / "out").mkdir()
    words = shlex.split(command.replace("$BACKEND", backend).replace("$TIME_BUDGET", "30m"))
    assert words[:3] == [".venv/bin/python", "-m", "pytest"]
    result = runner.pytester.runpytest_inprocess(*words[3:], "--problem", "mb1_ic4oc16_ih6kh3ph1")
    assert (result.ret, outcomes(result)) == (0, {"passed": 19})
    kept = re.search(r"path: (.*)/\n", SELF_HOSTED.read_text())
    assert kept
    folder = runner.path / kept[1]
    assert {"benchmark.json", "journal.jsonl", "junit.xml"} <= {path.name for path in folder.iterdir()}
    assert (runner.path / "page.md").read_text().count("## never-slower: GREEN") == 2


def test_the_matrix_has_every_python_and_versions_that_are_there():
    rows = re.findall(r'- python: "(.*)"\n +versions: (.*)\n', HOSTED.read_text())
    assert [python for python, versions in rows if versions == "constraints.txt"] == [
        f"3.{minor}" for minor in range(10, 15)
    ]
    assert ("3.10", LOWEST.name) in rows


def test_the_lowest_versions_are_those_that_are_declared():
    """But for torch, of which docs/howto/environment.md lists what was tried."""
    declared = re.findall(r'^    "([\w-]+)>=([\d.]+)', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    lowest = dict(re.findall(r"^([\w-]+)==(.*)", LOWEST.read_text(), flags=re.MULTILINE))
    newest = dict(declared)  # A development dependency's bound, which comes later, is the higher one.
    assert lowest.keys() <= newest.keys()
    assert [name for name in lowest if name != "torch" and Version(lowest[name]) != Version(newest[name])] == []


def test_the_scripts_that_workflows_run_are_there():
    for path in WORKFLOWS:
        for command in commands(path):
            first = shlex.split(command)[:2]
            if first[0] == "make":
                assert re.search(rf"^{first[1]}: ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
                continue
            script = first[1] if first[0] == "python3" else first[0]
            assert script in (".venv/bin/python", "mkdir") or (ROOT / script).is_file()
