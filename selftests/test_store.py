"""The store: an entry is whole and made from its key, or it is made again; and the folder stays small."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neverslower import cli
from neverslower.errors import KeptFolderError
from neverslower.files.kept import MANIFEST, TRIMMED_EVERY, KeptFolders, default_root
from selftests.support import ROOT

KEY = {"kind": "kernel", "subject": "one"}
OTHER = {"kind": "kernel", "subject": "two"}


def content(text: str = "content", name: str = "file") -> Callable[[Path], None]:
    """What fills an entry with one file."""

    def fill(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return fill


def unfinished(root: Path) -> list[Path]:
    """What lies beside the entries."""
    return [path for path in root.iterdir() if path.name.startswith(".")]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def store(tmp_path: Path) -> KeptFolders:
    return KeptFolders(tmp_path / "deep" / "store")


# Finding again


def test_what_was_added_is_found(store: KeptFolders) -> None:
    assert store.find(KEY) is None
    added = store.add(KEY, content("made"))
    assert store.find(KEY) == added
    assert (added / "file").read_text(encoding="utf-8") == "made"
    assert store.find(OTHER) is None
    assert not unfinished(store.root)


def test_another_process_finds_it(store: KeptFolders) -> None:
    added = store.add(KEY, content())
    assert KeptFolders(store.root).find(KEY) == added


def test_the_order_of_the_fields_does_not_matter(store: KeptFolders) -> None:
    added = store.add(KEY, content())
    assert store.find(dict(reversed(KEY.items()))) == added


@pytest.mark.parametrize(
    "other",
    [KEY | {"subject": "One"}, KEY | {"more": ""}, {"kind": "kernel"}, {"subject": "kernel", "kind": "one"}, {}],
)
def test_every_field_counts(store: KeptFolders, other: dict[str, str]) -> None:
    store.add(KEY, content())
    assert store.find(other) is None


def test_an_entry_without_files_is_one(store: KeptFolders) -> None:
    added = store.add(KEY, lambda folder: None)
    assert store.find(KEY) == added


def test_an_entry_appears_whole(store: KeptFolders) -> None:
    seen = []

    def fill(folder: Path) -> None:
        content()(folder)
        seen.append((store.find(KEY), store.entries(), folder.is_dir()))

    added = store.add(KEY, fill)
    assert seen == [(None, [], True)]
    assert store.find(KEY) == added


def test_the_entries_tell_what_they_were_made_from(store: KeptFolders) -> None:
    added = store.add(KEY, content("0123456789"))
    (entry,) = store.entries()
    assert (entry.path, entry.fields) == (added, KEY)
    assert entry.size == 10 + (added / MANIFEST).stat().st_size


# What is damaged is made again

DAMAGES: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda folder: (folder / "file").write_text("contents", encoding="utf-8"),
    "a flipped bit": lambda folder: (folder / "file").write_bytes(b"Content"),
    "an empty file": lambda folder: (folder / "file").write_bytes(b""),
    "a missing file": lambda folder: (folder / "file").unlink(),
    "an extra file": lambda folder: (folder / "extra").write_bytes(b""),
    "an extra folder": lambda folder: (folder / "extra").mkdir(),
    "a folder for a file": lambda folder: (folder / "file").rename(folder / "other").with_name("file").mkdir(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "an empty manifest": lambda folder: (folder / MANIFEST).write_bytes(b""),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, (folder / MANIFEST).stat().st_size // 2),
    "a manifest in no encoding": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "a list for a manifest": lambda folder: (folder / MANIFEST).write_text("[]", encoding="utf-8"),
    "no files in the manifest": lambda folder: rewritten(folder, files=None),
    "no fields in the manifest": lambda folder: rewritten(folder, fields="kernel"),
    "other fields in the manifest": lambda folder: rewritten(folder, fields=OTHER),
    "a digest that is none": lambda folder: rewritten(folder, files={"file": 5}),
}


def rewritten(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(manifest | fields), encoding="utf-8")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_dropped_and_made_again(store: KeptFolders, damage: Callable[[Path], object]) -> None:
    added = store.add(KEY, content())
    damage(added)
    assert store.find(KEY) is None
    assert not added.exists()
    assert store.add(KEY, content()) == added
    assert store.find(KEY) == added


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_replaced_by_adding(store: KeptFolders, damage: Callable[[Path], object]) -> None:
    damage(store.add(KEY, content()))
    assert (store.add(KEY, content("anew")) / "file").read_text(encoding="utf-8") == "anew"
    assert store.find(KEY)


def test_an_entry_at_another_key_s_place_is_not_taken_for_it(store: KeptFolders) -> None:
    one, other = store.add(KEY, content("one")), store.add(OTHER, content("two"))
    shutil.rmtree(other)
    shutil.copytree(one, other)
    assert store.find(OTHER) is None
    assert not other.exists()
    assert store.find(KEY) == one


# The bound


def filled(store: KeptFolders, count: int, size: int = 1000) -> list[Path]:
    """Entries of some size, the first the least recently used."""
    found = []
    for number in range(count):
        found.append(store.add({"number": str(number)}, content("x" * size)))
        age(found[-1], 100 * (count - number))
    return found


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    first, second, third = filled(KeptFolders(tmp_path), 3)
    assert KeptFolders(tmp_path).find({"number": "0"}) == first  # Used again, so it is the second's turn now.
    newest = KeptFolders(tmp_path, limit=3700).add(KEY, content("x" * 1000))
    assert [one.path for one in KeptFolders(tmp_path).entries()] == [third, first, newest]
    assert not second.exists()


def test_as_many_go_as_the_bound_asks_for(tmp_path: Path) -> None:
    *others, last = filled(KeptFolders(tmp_path), 5)
    newest = KeptFolders(tmp_path, limit=2500).add(KEY, content("x" * 1000))
    assert not any(path.exists() for path in others)
    assert last.exists()
    assert newest.exists()


def test_the_newest_stays_however_large_it_is(tmp_path: Path) -> None:
    filled(KeptFolders(tmp_path), 2)
    store = KeptFolders(tmp_path, limit=10)
    newest = store.add(KEY, content("x" * 1000))
    assert [one.path for one in store.entries()] == [newest]
    assert store.find(KEY) == newest


def test_the_newest_stays_though_the_clock_was_set_back(tmp_path: Path) -> None:
    (future,) = filled(KeptFolders(tmp_path), 1)
    age(future, -1e6)
    store = KeptFolders(tmp_path, limit=1500)
    newest = store.add(KEY, content("x" * 1000))
    assert newest.exists()
    assert not future.exists()


def test_within_the_bound_nothing_goes(tmp_path: Path) -> None:
    found = filled(KeptFolders(tmp_path, limit=100_000), 5)
    assert [one.path for one in KeptFolders(tmp_path).entries()] == found


def test_looking_for_what_is_damaged_is_no_use_of_the_others(tmp_path: Path) -> None:
    store = KeptFolders(tmp_path)
    first, second = filled(store, 2)
    store.find(KEY)
    assert [one.path for one in store.entries()] == [first, second]


# Failures


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_fill_that_raises_leaves_nothing(store: KeptFolders, error: type[BaseException]) -> None:
    def fill(folder: Path) -> None:
        content()(folder)
        raise error

    with pytest.raises(error):
        store.add(KEY, fill)
    assert store.find(KEY) is None
    assert list(store.root.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(store: KeptFolders) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(KeptFolderError, match=r"No space left on device.*XDG_CACHE_HOME") as caught:
        store.add(KEY, fill)
    assert str(store.root) in str(caught.value)
    assert list(store.root.iterdir()) == []


def test_a_root_that_can_t_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = KeptFolders(tmp_path / "file" / "store")
    assert store.find(KEY) is None
    assert store.entries() == []
    assert store.clear() == (0, 0)
    with pytest.raises(KeptFolderError) as caught:
        store.add(KEY, content())
    assert str(caught.value) == (
        f"{store.root} can't be written: Not a directory; name another folder in XDG_CACHE_HOME"
    )


def test_the_root_is_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "never-slower"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_root() == Path.home() / ".cache" / "never-slower"


# Several processes


def test_who_comes_second_gets_the_entry_of_who_was_first(store: KeptFolders) -> None:
    firsts = []

    def fill(folder: Path) -> None:
        content("second")(folder)
        firsts.append(KeptFolders(store.root).add(KEY, content("first")))

    assert [store.add(KEY, fill)] == firsts
    assert (firsts[0] / "file").read_text(encoding="utf-8") == "first"
    assert not unfinished(store.root)


def test_who_comes_second_replaces_a_damaged_entry(store: KeptFolders) -> None:
    def fill(folder: Path) -> None:
        content("second")(folder)
        (KeptFolders(store.root).add(KEY, content("first")) / "file").write_text("damaged", encoding="utf-8")

    assert (store.add(KEY, fill) / "file").read_text(encoding="utf-8") == "second"
    assert store.find(KEY)


ADDING = """
import pathlib, sys, time
from neverslower.files.kept import TRIMMED_EVERY, KeptFolders
root, go = map(pathlib.Path, sys.argv[1:])
def fill(folder):
    for name in "abc":
        (folder / name).write_text("x" * 5000)
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
for number in range(60):
    fields = {"number": str(number)}
    found = KeptFolders(root).add(fields, fill)
    assert KeptFolders(root).find(fields) == found, number
    assert {path.name for path in found.iterdir()} == {"a", "b", "c", "manifest.json"}, number
"""


def test_two_processes_that_add_the_same_at_once_both_get_it(tmp_path: Path) -> None:
    root, go = tmp_path / "store", tmp_path / "go"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ADDING, str(root), str(go)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) for _ in range(2)
    ]
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == b"ready\n"
    go.touch()
    for one in processes:
        _, errors = one.communicate(timeout=30)
        assert one.returncode == 0, errors.decode()
    assert len(KeptFolders(root).entries()) == 60
    assert not unfinished(root)


KILLED = """
import pathlib, sys, time
from neverslower.files.kept import TRIMMED_EVERY, KeptFolders
def fill(folder):
    (folder / "half").write_text("half")
    print("filling", flush=True)
    time.sleep(600)
KeptFolders(pathlib.Path(sys.argv[1])).add({"kind": "kernel", "subject": "one"}, fill)
"""


def test_a_process_that_adds_many_looks_at_the_whole_store_now_and_then(
    store: KeptFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look reads every entry: after each of hundreds it would take longer than what is kept took to make."""
    looks: list[Path] = []
    monkeypatch.setattr(KeptFolders, "_trim", lambda self, newest: looks.append(newest))
    for number in range(2 * TRIMMED_EVERY + 1):
        store.add({"number": str(number)}, content())
    assert len(looks) == 3


def test_what_a_killed_process_left_goes_once_it_is_stale(store: KeptFolders) -> None:
    command = [sys.executable, "-c", KILLED, str(store.root)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filling\n"
        process.send_signal(signal.SIGKILL)
    (left,) = unfinished(store.root)
    assert store.find(KEY) is None
    assert store.entries() == []
    added = store.add(KEY, content())
    assert left.exists()  # It could be another process's that is still at work.
    age(left, 3000)
    KeptFolders(store.root).add(OTHER, content())  # What is too much or too old goes when a process adds its first.
    assert left.exists()
    age(left, 4000)
    KeptFolders(store.root).add({}, content())
    assert not left.exists()
    assert store.find(KEY) == added


# Strangers, and clearing


def test_strangers_are_no_entries_and_stay(store: KeptFolders) -> None:
    added = store.add(KEY, content())
    (store.root / "notes.txt").write_text("a user's", encoding="utf-8")
    for name, manifest in (("bare", None), ("unreadable", "{"), ("other", '{"fields": 1}')):
        (store.root / name).mkdir()
        if manifest:
            (store.root / name / MANIFEST).write_text(manifest, encoding="utf-8")
    assert [one.path for one in store.entries()] == [added]
    assert store.clear()[0] == 1
    assert {path.name for path in store.root.iterdir()} == {"notes.txt", "bare", "unreadable", "other"}


def test_the_command_shows_and_clears_whatever_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suite = tmp_path / "never-slower" / "apt" / "arm64-sid"
    suite.mkdir(parents=True)
    (suite / "lists").write_bytes(bytes(2_000_000))
    unfinished = tmp_path / "never-slower" / "releases" / ".new-x"
    unfinished.mkdir(parents=True)
    os.utime(unfinished, (0, 0))
    assert cli.main(["cache"]) == 0
    assert f"apt: 2.0 MB in {suite.parent}\n" in capsys.readouterr().out
    assert cli.main(["cache", "--clear"]) == 0
    assert f"apt: removed 2.0 MB, from {suite.parent}\n" in capsys.readouterr().out
    assert not suite.parent.exists()
    assert not unfinished.exists()


def test_clearing_removes_every_entry_and_says_how_much_that_was(store: KeptFolders) -> None:
    assert store.clear() == (0, 0)
    for fields in (KEY, OTHER):
        store.add(fields, content())
    size = sum(path.stat().st_size for path in store.root.glob("*/*"))
    assert store.clear() == (2, size)
    assert store.entries() == []
    assert store.find(KEY) is None
    assert store.add(KEY, content())
