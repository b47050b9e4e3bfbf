"""The code that a process runs: equal files are equal code, wherever they lie, and nothing else is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from backends import identity
from backends.cudnn.launching import Launched
from backends.identity import code_of_loaded
from neverslower.evidence.observation import Plan
from neverslower.files.kept import KeptFolders
from selftests.support import needs_proc

NAMES = ("libconv", "libhelp.")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    identity._hash_of.cache_clear()


def maps(folder: Path, **files: str) -> Path:
    """A list of mapped files as Linux has it; each is mapped twice, and something else once."""
    folder.mkdir()
    lines = ["7f0000000000-7f0000001000 rw-p 00000000 00:00 0", "7f01-7f02 r-xp 00000000 08:01 7 /usr/lib/libc.so.6"]
    for name, content in files.items():
        path = folder / f"{name}.so.9"
        path.write_text(content, encoding="utf-8")
        lines += [f"7f03-7f04 r-{mode}p 00001000 08:01 8                   {path}" for mode in "-x"]
    (folder / "maps").write_text("\n".join(lines), encoding="utf-8")
    return folder / "maps"


def test_equal_files_are_equal_code_wherever_they_lie(tmp_path: Path) -> None:
    code = code_of_loaded(NAMES, maps(tmp_path / "one place", libconv="a", libhelp="b"))
    assert len(code) == identity.SHORT
    assert code_of_loaded(NAMES, maps(tmp_path / "two", libhelp="b", libconv="a")) == code
    assert code_of_loaded(NAMES, maps(tmp_path / "three", libhelp="b", libconv="A")) != code
    assert code_of_loaded(NAMES, maps(tmp_path / "four", libconv="a")) != code
    assert code_of_loaded(NAMES, maps(tmp_path / "five", libconv="a", libconv_more="b")) != code


def test_where_nothing_is_loaded_or_listed_no_code_is_known(tmp_path: Path) -> None:
    assert code_of_loaded(NAMES, maps(tmp_path / "one", libother="a", libhelpers="b")) == ""
    assert code_of_loaded(NAMES, tmp_path / "nowhere") == ""
    gone = maps(tmp_path / "two", libconv="a")
    (tmp_path / "two" / "libconv.so.9").unlink()
    assert code_of_loaded(NAMES, gone) == ""


def test_what_was_hashed_once_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    listed = maps(tmp_path / "one", libconv="a")
    code = code_of_loaded(NAMES, listed)
    store = KeptFolders(tmp_path / "cache" / "never-slower" / identity.PLACE)
    (entry,) = store.entries()
    assert entry.fields["file"] == str(tmp_path / "one" / "libconv.so.9")
    identity._hash_of.cache_clear()
    assert code_of_loaded(NAMES, listed) == code
    (tmp_path / "one" / "libconv.so.9").write_text("other", encoding="utf-8")
    assert code_of_loaded(NAMES, listed) != code
    assert len(store.entries()) == 2


def test_a_file_of_equal_size_and_date_in_the_same_place_is_hashed_again(tmp_path: Path) -> None:
    listed, path = maps(tmp_path / "one", libconv="a"), tmp_path / "one" / "libconv.so.9"
    os.utime(path, (1, 1))  # As an archive dates its files, one release like the other.
    code = code_of_loaded(NAMES, listed)
    newer = tmp_path / "newer"
    newer.write_text("b", encoding="utf-8")
    os.utime(newer, (1, 1))
    newer.replace(path)
    assert code_of_loaded(NAMES, listed) != code


@needs_proc
def test_the_code_of_this_process_is_found() -> None:
    assert code_of_loaded(("libc.so", "libc-2", "ld-")) or sys.platform != "linux"


def test_a_plan_without_steps_has_no_code() -> None:
    launched = Launched(print, [], Plan("eng1", rank=0))
    assert launched.dispatched(("k grid=1x1x1 block=1x1x1",), (1.0,), "abc").code == "abc"
    assert launched.dispatched((), (), "abc").code == ""
