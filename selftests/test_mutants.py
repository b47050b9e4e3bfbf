"""The mutants: that each still applies, and that the command tells a catch from what is none."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from selftests.support import ROOT, tree
from tools.mutants import __main__ as command
from tools.mutants.catalogue import Malformed, read
from tools.mutants.mutant import Mutant, Stale
from tools.mutants.trial import Fate, NotSound, Ran, Trials, fate_of, tracked

MUTANTS = read()
TEST = "selftests/test_clock.py::test_a_second_has_a_thousand_milliseconds"
FILES = {
    "conftest.py": "import hypothesis\n\nhypothesis.settings.register_profile('ci')\n",
    "clock.py": "def seconds(milliseconds):\n    return milliseconds / 1000\n",
    "selftests/test_clock.py": """import pytest
from clock import seconds

@pytest.fixture
def second():
    return 1 / seconds(1000)

@pytest.mark.parametrize("many", [1, 3])
def test_a_second_has_a_thousand_milliseconds(many):
    assert seconds(1000 * many) == many

def test_a_second_is_a_number(): assert seconds(1000) is not None

def test_a_second_can_be_inverted(second): pass

def test_that_fails(): assert not seconds(1000)

def test_that_is_skipped(): pytest.skip("no clock")
""",
}
LIE = Mutant("milliseconds", "Milliseconds are seconds.", "clock.py", "/ 1000", "/ 1", TEST)
SURVIVOR = replace(LIE, name="survivor", caught_by="selftests/test_clock.py::test_a_second_is_a_number")
NO_IMPORT = replace(LIE, name="no import", old="def seconds", new="import nothing_of_this_name\n\ndef seconds")
NO_FIXTURE = replace(
    LIE, name="no fixture", new="* 0", caught_by="selftests/test_clock.py::test_a_second_can_be_inverted"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny project with selftests; copies of it are made in a folder of the test."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    return tree(tmp_path / "project", FILES)


def fates(project: Path, *mutants: Mutant, limit: float = 60.0) -> list[Fate]:
    with Trials(project, list(FILES), limit=limit).of(mutants) as trials:
        return [one.fate for one in trials]


# The catalogue


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_each_mutant_applies_and_its_selftest_is_there(mutant: Mutant) -> None:
    mutant.check(ROOT)


def test_mutants_are_told_apart() -> None:
    assert len(MUTANTS) >= 20
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)
    assert len({(one.path, one.old, one.new) for one in MUTANTS}) == len(MUTANTS)
    assert all(one.lie.endswith(".") for one in MUTANTS)


def test_no_mutant_is_named_like_a_room() -> None:
    assert {mutant.room for mutant in MUTANTS} & {mutant.name for mutant in MUTANTS} == set()


ENTRY = """[milliseconds]
lie = "Milliseconds are seconds."
path = "clock/clock.py"
old = '''
    return milliseconds / 1000
'''
new = '/ "\\d"'
caught_by = "selftests/test_clock.py::test_a_second"
"""


def test_an_entry_is_read_byte_for_byte(tmp_path: Path) -> None:
    (mutant,) = read(tree(tmp_path, {"clock.toml": ENTRY}))
    assert mutant == Mutant(
        "milliseconds",
        "Milliseconds are seconds.",
        "clock/clock.py",
        "    return milliseconds / 1000\n",
        '/ "\\d"',
        "selftests/test_clock.py::test_a_second",
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"clock.toml": ENTRY + ENTRY}, r"clock\.toml: .*milliseconds"),
        ({"clock.toml": "lie : 1"}, r"clock\.toml: .*line 1"),
        ({"clock.toml": 'milliseconds = "seconds"'}, r"clock\.toml: \[milliseconds\] is no table"),
        ({"clock.toml": ENTRY.replace("lie =", "lies =")}, r"clock\.toml: \[milliseconds\] lacks lie"),
        ({"clock.toml": ENTRY + "why = ''"}, r"clock\.toml: \[milliseconds\] has why, which"),
        ({"clock.toml": ENTRY.replace('"Milliseconds are seconds."', "1000")}, r"\[milliseconds\] has lie that is no"),
        ({"watch.toml": ENTRY}, r"watch\.toml: \[milliseconds\] changes clock/clock\.py, so it belongs in clock\.toml"),
        (
            {"clock.toml": ENTRY, "watch.toml": ENTRY.replace("clock/", "watch/")},
            r"watch\.toml: \[milliseconds\] is in clock\.toml already",
        ),
    ],
)
def test_an_entry_that_cannot_be_read_is_told_with_its_file(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(Malformed, match=words):
        read(tree(tmp_path, files))


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("neverslower/judge/verdict.py", "judge"),
        ("neverslower/device/readers/nvml.py", "device"),
        ("backends/tvm/__init__.py", "backends"),
        ("neverslower/run.py", "doors"),
    ],
)
def test_a_mutant_lives_in_the_room_of_what_it_changes(path: str, room: str) -> None:
    assert replace(LIE, path=path).room == room


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"old": "/ 10000"}, "stands 0 times in clock.py"),
        ({"old": "milliseconds"}, "stands 2 times in clock.py"),
        ({"new": "/ 1000"}, "the new text is the old one"),
        ({"new": "/"}, "no Python any more"),
        ({"path": "watch.py"}, "watch.py is not there"),
        ({"caught_by": "selftests/test_clock.py::test_a_second"}, "has no test_a_second"),
        ({"caught_by": "selftests/test_watch.py::test_a_second"}, "test_watch.py is not there"),
    ],
)
def test_a_mutant_that_does_not_apply_is_stale(project: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(Stale, match=words):
        replace(LIE, **changes).check(project)


def test_a_lie_is_not_hidden_by_bytecode(project: Path) -> None:
    compiled = tree(project, {"__pycache__/clock.cpython-311.pyc": "", "__pycache__/clocks.cpython-311.pyc": ""})
    LIE.tell(project)
    assert [path.name for path in compiled.glob("__pycache__/*")] == ["clocks.cpython-311.pyc"]
    assert (project / "clock.py").read_text(encoding="utf-8").endswith("/ 1\n")


# What is a catch


def test_a_catch_is_told_from_what_is_none(project: Path) -> None:
    found = fates(project, LIE, SURVIVOR, NO_IMPORT, NO_FIXTURE)
    assert found == [Fate.CAUGHT, Fate.SURVIVED, Fate.NOT_TRIED, Fate.NOT_TRIED]
    assert {path.name: path.read_text(encoding="utf-8") for path in project.glob("*.py")}.items() <= FILES.items()
    assert list((project.parent / "copies").iterdir()) == []


def test_selftests_that_do_not_end_are_ended_and_prove_nothing(project: Path) -> None:
    with pytest.raises(NotSound, match=r"ended after 0\.05 s"):
        fates(project, LIE, limit=0.05)


@pytest.mark.parametrize("test", ["test_that_fails", "test_that_is_skipped"])
def test_a_selftest_that_does_not_pass_without_a_mutant_proves_nothing(project: Path, test: str) -> None:
    with pytest.raises(NotSound, match=test):
        fates(project, replace(LIE, caught_by=f"selftests/test_clock.py::{test}"))


@pytest.mark.parametrize(
    ("code", "outcomes", "fate"),
    [
        (1, {f"{TEST}[1]": "passed", f"{TEST}[3]": "failed"}, Fate.CAUGHT),
        (1, {"selftests/test_clock.py::test_another": "failed"}, Fate.NOT_TRIED),
        (1, {f"{TEST}_twice": "failed"}, Fate.NOT_TRIED),
        (1, {TEST: "error"}, Fate.NOT_TRIED),
        (2, {TEST: "failed"}, Fate.NOT_TRIED),
        (None, {}, Fate.NOT_TRIED),
        (0, {TEST: "skipped"}, Fate.NOT_TRIED),
        (0, {TEST: "passed"}, Fate.SURVIVED),
        (5, {}, Fate.NOT_TRIED),
    ],
)
def test_only_a_failure_of_its_own_selftest_catches_a_mutant(
    code: int | None, outcomes: dict[str, str], fate: Fate
) -> None:
    assert fate_of(Ran(code, "", tuple(outcomes.items())), TEST) is fate


# The command


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "tracked", lambda root: list(FILES))

    def run(*mutants: Mutant, arguments: Sequence[str] = ()) -> int:
        return command.main(arguments, project, mutants)

    return run


def test_all_that_are_caught_end_with_0(run, capsys) -> None:
    assert run(LIE) == 0
    told = capsys.readouterr().out
    assert "1/1  milliseconds  " in told
    assert TEST in told
    assert "1 of 1 caught" in told


def test_one_that_survives_ends_with_1_and_is_told_with_its_lie(run, capsys) -> None:
    assert run(LIE, SURVIVOR) == 1
    told = capsys.readouterr().out
    assert f"SURVIVED, by {SURVIVOR.caught_by}" in told
    assert "the lie: Milliseconds are seconds." in told
    assert "1 of 2 caught" in told


def test_one_that_applies_no_more_ends_with_2_before_anything_is_run(run, capsys) -> None:
    assert run(LIE, replace(LIE, name="stale", old="/ 60")) == 2
    told = capsys.readouterr().out
    assert "stale: the old text stands 0 times in clock.py, not once: / 60" in told
    assert "caught" not in told


def test_selftests_that_fail_anyway_end_with_2(run, capsys) -> None:
    assert run(replace(LIE, caught_by="selftests/test_clock.py::test_that_fails")) == 2
    assert "do not pass without a mutant" in capsys.readouterr().out


def test_only_the_named_are_tried(run, capsys) -> None:
    assert run(SURVIVOR, LIE, arguments=["milliseconds"]) == 0
    assert "1 of 1 caught" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["watch"], ["--room", "watch"]])
def test_a_room_stands_for_all_of_its_mutants(run, capsys, arguments: list[str]) -> None:
    watch = [replace(LIE, name=name, path="watch/clock.py") for name in ("first", "second")]
    assert run(LIE, *watch, arguments=[*arguments, "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["watch", "first", "second"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["millis"], "no mutant is called millis"),
        (["--room", "milliseconds"], "no room with mutants is called milliseconds; there are doors"),
    ],
)
def test_a_name_that_is_none_is_told(run, capsys, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(LIE, arguments=arguments)
    assert words in capsys.readouterr().err


def test_a_catalogue_that_cannot_be_read_ends_with_2(monkeypatch, capsys) -> None:
    def broken() -> None:
        raise Malformed("clock.toml: [milliseconds] lacks lie")

    monkeypatch.setattr(command, "read", broken)
    assert command.main([]) == 2
    assert "clock.toml: [milliseconds] lacks lie" in capsys.readouterr().out


def test_lies_are_listed_by_room_and_none_is_told(run, capsys) -> None:
    assert run(LIE, SURVIVOR, replace(LIE, name="third", path="watch/clock.py"), arguments=["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "doors",
        "    milliseconds  Milliseconds are seconds.",
        "    survivor      Milliseconds are seconds.",
        "watch",
        "    third         Milliseconds are seconds.",
    ]


def test_a_folder_that_git_does_not_know_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotSound, match="git must list the files"):
        tracked(tmp_path / "nowhere")
