"""README and docs: every command in them that needs no device is run, and excerpts and tables are what it prints."""

from __future__ import annotations

import lzma
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from glob import glob
from importlib.util import find_spec
from pathlib import Path

import pytest

from neverslower import cli, pytest_root
from neverslower.outcome.table import Finding
from selftests.conftest import SuiteRunner
from selftests.support import ROOT
from selftests.test_imports import FLOORS
from selftests.test_plugin import FLAT
from tools import reference

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)])
GUIDES = [DOCS / "howto" / name for name in ("jetson.md", "mali.md")]
VENV = ".venv/bin/"
PYTEST, COMMAND, BENCH = "pytest ", "python -m neverslower ", "python -m bench."
OTHERS = (
    "sudo ", "./config.sh ", "git add ", "git bisect run ", "dpkg ", "apt-get ", "cmake gcc ", "pip install ",
    "python3 -m venv ", "python -m pip ", "python3 tools/setup_environment.py ", "make",
    "python -m tvm.exec.",
)  # fmt: skip
"""What needs a device, changes the system, or sets up; and make, whose targets are looked up."""
NEED_A_DEVICE = ("doctor", "calibrate", "map", "advise", "mend", "bisect", "explain", "build-acl")
JOURNAL = "bench/data/journals/tvm-0.25-0.27-two-cores.jsonl.xz"
COUNTED = sorted((ROOT / "baselines/acl@cortex-a76-emulated").glob("000[14]_*.jsonl"))
STANDS_FOR = {
    "resnet50.json.xz": ROOT / "baselines/cudnn@nvidia-h100-80gb-hbm3/maps/torch-resnet50.L16-float16-NHWC.json.xz",
    "OLD.jsonl": COUNTED[0],
    "NEW.jsonl": COUNTED[1],
    "original.py:build": DOCS / "examples" / "original.py:build",
    "pruned.py:build": DOCS / "examples" / "pruned.py:build",
    "original=docs/examples/resnet18.py:original": f"original={DOCS / 'examples' / 'original.py'}:build",
    "pruned=docs/examples/resnet18.py:pruned": f"pruned={DOCS / 'examples' / 'pruned.py'}:build",
    "shapes.txt": DOCS / "examples" / "shapes.txt",
}
"""What a page names and a reader has, with something of the kind that is in the repository."""
RECORDED = f"{COMMAND}upgrade bench/"
"""How a command begins that draws the verdicts again from a whole committed journal, which takes up to a minute."""
EVERY_RECORD = f"{COMMAND}headline --over-all bench/"
"""How the one begins that reads all committed journals."""
each = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each block of code: its language, `sh` for an indented one, and its lines."""
    text = page.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\S*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield language, block.splitlines()
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield "sh", [line[4:] for line in outside.splitlines() if line.startswith("    ")]


def commands(*pages: Path) -> list[str]:
    """Each command of some pages, once: a line that may go on, without its comment."""
    found = []
    for page in pages:
        for language, lines in blocks(page):
            if language == "sh":
                joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
                found += [re.sub(r"\s+# .*", "", line).strip() for line in joined.splitlines()]
    return list(dict.fromkeys(line.replace(VENV, "").replace("python -m pytest", "pytest") for line in found if line))


def of(start: str, *pages: Path) -> list[str]:
    """The commands of some pages that begin so, `pytest` alone too."""
    return [one for one in commands(*pages) if f"{one} ".startswith(start)]


def measuring() -> list[str]:
    """Every command that runs pytest, git bisect's too, but for those that guides really run."""
    all_of_them = [one.removeprefix("git bisect run ") for one in commands(*PAGES)]
    return [one for one in all_of_them if f"{one} ".startswith(PYTEST) and one not in of(PYTEST, *GUIDES)]


def arguments(command: str) -> list[str]:
    """A command's words after its program, with files of the repository for what stands for one."""
    words = shlex.split(command.removeprefix(COMMAND).removeprefix("pytest"))
    found: list[str] = []
    for word in words:
        there = sorted(glob(str(ROOT / word))) if "/" in word and not word.startswith("-") else []
        found += [str(STANDS_FOR[word])] if word in STANDS_FOR else there or [word]
    return found


@each_page
def test_every_command_is_one_that_is_run_or_a_known_other(page: Path) -> None:
    known = (PYTEST, COMMAND, BENCH, *OTHERS)
    assert [one for one in commands(page) if not f"{one} ".startswith(known)] == []


@pytest.mark.parametrize("command", [one for one in commands(*PAGES) if one.startswith("make ")])
def test_a_target_of_make_is_there(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}: .*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("command", of(BENCH, *PAGES))
def test_a_measurement_of_the_suite_itself_is_there(command: str) -> None:
    assert (ROOT / f"{command.split()[2].replace('.', '/')}.py").is_file()


# What a reader is asked to type


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a run, as a reader has it after the first one."""
    path = tmp_path_factory.mktemp("journal") / "run.jsonl"
    path.write_bytes(lzma.decompress((ROOT / JOURNAL).read_bytes()))
    return path


@pytest.fixture
def reader(runner: SuiteRunner, models_here: None, journal: Path) -> SuiteRunner:
    """The runner in a folder where somebody has followed the pages up to here."""
    (runner.path / "docs").symlink_to(DOCS)
    (runner.path / ".neverslower").mkdir()
    (runner.path / ".neverslower" / "journal-….jsonl").symlink_to(journal)
    (runner.path / "options.txt").write_text("--layer\nresnet50.L16\n", encoding="utf-8")
    (runner.path / "advice.json").write_text(
        (DOCS / "examples" / "advice.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    return runner


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A model of one convolution, without weights; of the session, since onnx may be imported but once a process."""
    if find_spec("onnx") is None:
        return None
    import onnx

    images, weights, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", (1, 3, 8, 8)), ("weights", (16, 3, 3, 3)), ("output", None))
    )
    node = onnx.helper.make_node("Conv", ["images", "weights"], ["output"], name="conv1")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save_model(onnx.helper.make_model(onnx.helper.make_graph([node], "net", [images, weights], [output])), path)
    return path


@pytest.mark.parametrize("command", measuring())
def test_the_options_of_a_command_are_understood(reader: SuiteRunner, onnx_file: Path | None, command: str) -> None:
    """On the backend that it names, of which nothing is started: collecting needs no device."""
    if "--model" in command and find_spec("torch") is None:
        pytest.skip("--model needs torch")
    if "--onnx" in command:
        if onnx_file is None:
            pytest.skip("--onnx needs onnx")
        shutil.copy(onnx_file, reader.path)
    words = pytest_root.joined(arguments(command), pytest_root.value_flags())  # As where the suite is installed.
    result = reader.pytester.runpytest_inprocess(*words, "--collect-only", "-q", "-p", "no:cacheprovider")
    assert result.ret == 0, result.stderr.str()
    assert re.search(r"\d+ tests? collected|/\d+ tests collected", result.stdout.str())


@pytest.mark.parametrize(
    "command", [one for one in of(COMMAND, *PAGES) if not one.startswith((RECORDED, EVERY_RECORD))]
)
def test_a_command_is_run_unless_it_needs_a_device(
    reader: SuiteRunner, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(reader.path))
    words = arguments(command)
    if words[0] in NEED_A_DEVICE:
        cli._parser().parse_args(words)
        return
    assert cli.main(words) in ((0, 1) if words[0] == "compare" else (0,))
    assert capsys.readouterr().out


def test_there_are_such_commands() -> None:
    assert len(measuring()) > 50
    assert len(of(COMMAND, *PAGES)) > 25
    assert len(of(PYTEST, *GUIDES)) == 10


# Guides for boards, whose commands are run on scripted times


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


def scripted(runner: SuiteRunner, command: str, start: str) -> list[str]:
    """The command's arguments, with a script in the place of the board."""
    board = r"(cudnn|acl)(:.*)?"
    words = shlex.split(command.removeprefix(start))
    return [runner.script(**FLAT) if re.fullmatch(board, word) else word for word in words]


@pytest.mark.parametrize("command", of(PYTEST, *GUIDES))
def test_a_command_of_a_guide_measures(runner: SuiteRunner, docker: None, command: str) -> None:
    if "--benchmark-compare" in command:
        runner.accept(FLAT)
    words = scripted(runner, command, PYTEST)
    small = [] if "--layer" in words else ["--problem", "mb1_ic4oc16_ih6kh3ph1"]
    result = runner.pytester.runpytest_inprocess(*words, *small, "-p", "no:cacheprovider")
    assert result.ret == 0
    if "--accept-baseline" in words:
        assert len(list(runner.path.glob("baselines/*/0001_*.json"))) == 1


@pytest.mark.parametrize("command", [one for one in of(COMMAND, *GUIDES) if "build-acl" not in one])
def test_a_command_of_a_guide_says_something(
    runner: SuiteRunner, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.accept(FLAT)
    assert cli.main(scripted(runner, command, COMMAND)) == 0
    assert capsys.readouterr().out


@each
def test_a_guide_says_that_no_board_was_at_hand(guide: Path) -> None:
    assert "**No part of this was run on a" in guide.read_text()


# What pages show is what is printed


def test_the_excerpts_are_what_a_run_prints(reader: SuiteRunner) -> None:
    """If not, paste from what the run printed: README.md has the only excerpts, and docs/start.md includes them."""
    shown = [lines for language, lines in blocks(README) if language == "console"]
    assert len(shown) == 3
    for command, *lines in shown:
        words = shlex.split(command.removeprefix("$ pytest "))
        printed = reader.pytester.runpytest_inprocess(*words, "-p", "no:cacheprovider").outlines
        assert in_order(lines, printed) == []


def in_order(wanted: list[str], printed: list[str]) -> list[str]:
    """The wanted lines from the first on that is not among the printed ones, after those before it."""
    rest = iter(printed)
    return next((wanted[number:] for number, line in enumerate(wanted) if line not in rest), [])


@pytest.mark.slow
@pytest.mark.parametrize("command", of(RECORDED, *PAGES))
def test_the_tables_of_upgrades_are_what_the_command_prints(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (page,) = (page for page in PAGES if command in commands(page))
    assert cli.main(arguments(command)) == 0
    counts, *rows = (line for line in capsys.readouterr().out.splitlines() if line)
    text = page.read_text(encoding="utf-8")
    table = [row for row in rows if row.startswith("|")]
    assert [row for row in table[2:] if row not in text] == []
    slower, faster, same, undecided, whole = re.findall(r"\d+(?!\d* confirmed)", counts)
    assert f"| {slower} | {faster} | {same} | {undecided} |" in text
    assert whole in text


def test_the_table_of_every_channel_count_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / "findings" / "cudnn.md"
    command, *_ = of(f"{COMMAND}headline", page)
    assert cli.main(arguments(command)) == 0
    printed = re.sub(r"(resnet50|vgg16|alexnet)\.", "", capsys.readouterr().out)
    rows = [row for row in page.read_text(encoding="utf-8").splitlines() if re.match(r"\| H\d00, ", row)]
    assert len(rows) == 7
    assert [row for row in rows if row.split(" | ", 1)[1] not in printed] == []


@pytest.mark.slow
def test_the_headline_of_every_record_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / "findings" / "headline.md"
    (command,) = of(EVERY_RECORD, page)
    assert cli.main(arguments(command)) == 0
    text = page.read_text(encoding="utf-8")
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    assert len(rows) > 40
    assert [row for row in rows if row not in text] == []


def test_every_finding_has_its_date_command_and_record() -> None:
    for page in (DOCS / "findings").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        if page.name != "index.md":
            dates = re.findall(r"\*\d\d? (?:and \d\d )?[A-Z][a-z]+ 20\d\d\.", text)
            assert dates
            assert len(dates) <= len([one for one, _ in blocks(page) if one == "sh"])


# What pages say about this project


@each_page
def test_what_a_page_names_of_this_project_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:selftests|tools|\.github|docs|bench|neverslower|baselines)/[\w./@+-]+)`", text)
    linked = re.findall(r"\]\(([^)#:]+\.\w+)\)", text)
    assert [name for name in named if not (ROOT / name.rstrip("/")).exists() and "…" not in name] == []
    assert [name for name in linked if not (page.parent / name).exists()] == []
    extras = re.findall(r"\.\[(\w+)\]", text)
    assert [extra for extra in extras if f"\n{extra} = [" not in (ROOT / "pyproject.toml").read_text()] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


DOORS = {"option_table", "options", "run", "stock", "cli_shared", "cli_maps", "cli_grid", "cli_advise", "cli_widths"}
DOORS |= {"run_plan", "run_summary", "cli_gridded", "cli_mend", "pytest_items", "cli", "__main__"}
"""A room of each floor of the doors, which share one band of the drawing."""


def test_the_house_is_drawn_as_it_stands() -> None:
    """A band of the drawing for each floor that has rooms, in the order of the floors."""
    text = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"```text\n the doors(.*?)```", text, flags=re.DOTALL)
    assert drawing
    bands = [set(re.findall(r"(?:^| )(\w+)(?:/|\.py) {2}", band, re.MULTILINE)) for band in drawing[1].split("─\n")]
    rooms = [floor - {"counted", "enums"} for floor in FLOORS if not floor & DOORS]
    assert bands[1:] == rooms[::-1]


def test_the_generated_pages_have_everything() -> None:
    assert reference.MEANINGS.keys() == set(Finding)
    pages = [text for page in PAGES for text in re.findall(r"<!-- generated: (\w+) -->", page.read_text())]
    assert sorted(pages) == sorted(reference.GENERATED)
    options = reference.options()
    assert "| `--keep N` |" in options
    assert "| `out` |" in options
    assert "python -m neverslower doctor [BACKEND …] [options]\n" in reference.commands()
    assert "| **HAZARDS** |" in reference.exit_codes()


def test_a_page_is_filled_and_an_unknown_name_is_an_error() -> None:
    assert reference.fill("# X\n\n<!-- generated: outcomes -->\n").startswith("# X\n\n| finding |")
    with pytest.raises(KeyError):
        reference.fill("<!-- generated: nonsense -->")
