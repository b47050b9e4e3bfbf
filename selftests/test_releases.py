"""Releases as packages: how they are named, what pip and apt say of them, what is kept, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import backends
from neverslower import option_values, options, run
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, ReleaseError, Unavailable, Unreachable
from neverslower.files.journal import Journal
from neverslower.files.kept import KeptTrees
from neverslower.option_table import OPTIONS
from neverslower.releases import asking, debs, environments, providing, wheels
from neverslower.releases.asking import kept_pip, refusal
from neverslower.releases.environments import Environment, environment, told
from neverslower.releases.spec import DebRelease, PipRelease, RootRelease, parse
from neverslower.releases.wheels import Wheel, resolved, size_of, versions
from neverslower.report import kept
from neverslower.worker.process import WorkerSpec
from selftests.conftest import SuiteRunner
from selftests.support import script

TVM = "pip:apache-tvm==0.25.0"


def pip_release(text: str) -> PipRelease:
    release = parse("--against", text)
    assert isinstance(release, PipRelease)
    return release


# Names


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (TVM, TVM),
        ("pip:apache-tvm==0.25.0 apache-tvm-ffi==0.1.12", "pip:apache-tvm==0.25.0 apache-tvm-ffi==0.1.12"),
        ("pip:nvidia-cudnn-cu13==9.19.*", "pip:nvidia-cudnn-cu13==9.19.*"),
        ("deb:libarm-compute-dev/trixie", "deb:libarm-compute-dev:arm64/trixie"),
        ("deb:libx:amd64=1:2.3+dfsg-1~x", "deb:libx:amd64=1:2.3+dfsg-1~x"),
        ("deb:libx", "deb:libx:arm64"),
    ],
)
def test_a_release_is_read_and_written(text: str, written: str) -> None:
    assert str(parse("--against", text)) == written == option_values.library("--against", text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pip:", "--against pip: names nothing; write 'pip:NAME==VERSION'"),
        ("pip:torch", "say which version of torch; write 'pip:NAME==VERSION'"),
        ("pip:torch==2.9.1 =x", "'=x' is no requirement"),
        ("pip:torch@https://x/torch.whl", "names a file, and an index is asked by name"),
        ("deb:a b", "write deb:NAME/SUITE or deb:NAME=VERSION, one package"),
        ("root:/nowhere/at/all", "root:/nowhere/at/all: no such folder"),
        ("root:", "no such folder"),
    ],
)
def test_a_word_that_is_no_release_is_one_clear_line(text: str, why: str) -> None:
    with pytest.raises(NeverSlowerError) as refused:
        option_values.library("--against", text)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_release_knows_its_library_its_version_and_whether_it_is_laid_over() -> None:
    assert pip_release("pip:Apache_TVM==0.25.0").library == "apache-tvm"
    assert str(pip_release(TVM).version) == "0.25.0"
    assert pip_release("pip:nvidia-cudnn-cu13==9.19.*").version is None
    assert pip_release("pip:torch>=2").version is None
    assert pip_release("pip:nvidia-cudnn-cu13==9.19.*").overlay
    assert not pip_release("pip:torch==2.9.1 nvidia-cudnn-cu13==9.19.*").overlay


def test_the_option_takes_a_release_and_nothing_is_downloaded_by_reading_it() -> None:
    values = {option.key: option.default for option in OPTIONS} | {"backend": ["scripted"], "against": TVM}
    assert options.plan(values).against["scripted"].execnet == TVM
    with pytest.raises(NeverSlowerError, match="--against pip:torch: say which version"):
        options.plan(values | {"against": "pip:torch"})


# What pip says


@pytest.mark.parametrize(
    ("stderr", "kind", "why"),
    [
        ("/x/python: No module named pip", ReleaseError, "this Python has no pip; `"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
            Unreachable,
            "no index can be reached; connect this machine",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: 0.1, 0.2)\n"
            "ERROR: No matching distribution found for x==1",
            ReleaseError,
            "on this machine; it has 0.1, 0.2",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement y>=2 (from x) (from versions: 1.0)",
            ReleaseError,
            "the index has no wheel of y>=2 for Python",
        ),
        ("ERROR: No matching\nERROR: it failed (from versions: none)", ReleaseError, "on this machine; it has none"),
        (
            "Could not fetch URL https://i/simple/x/: There was a problem confirming the ssl certificate: Max retries "
            "exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]')))\n"
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
            Unreachable,
            "certificate of the index, or of a proxy, can't be verified; name its authority",
        ),
        (
            "WARNING: 401 Error, Credentials not correct for https://i/simple/x/\n"
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
            ReleaseError,
            "the index refuses access (401); name a user and a token",
        ),
        ("noise\nERROR: Cannot install x and y: conflict", ReleaseError, "pip refused: Cannot install x and y"),
        ("", ReleaseError, "it gave no reason"),
    ],
)
def test_what_pip_says_is_one_line_with_the_remedy(stderr: str, kind: type[ReleaseError], why: str) -> None:
    error = refusal("pip:x==1", stderr)
    assert type(error) is kind
    assert str(error).startswith("pip:x==1: ")
    assert why in str(error)
    assert "\n" not in str(error)


def pip_that(monkeypatch: pytest.MonkeyPatch, stdout: str = "", stderr: str = "", code: int = 0) -> list[list[str]]:
    """Let pip answer so, and return what it is asked."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(asking, "kept_pip", lambda: None)
    return asked


REPORT = """{"install": [{"metadata": {"name": "apache-tvm", "version": "0.25.0"}, "download_info":
 {"url": "%s", "archive_info": {"hash": "sha256=abc", "hashes": {"sha256": "abc"}}}}]}"""


def test_wheels_are_read_from_pip_s_report_with_their_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a b.whl").write_bytes(b"x" * 1500)
    url = (tmp_path / "a b.whl").as_uri()
    asked = pip_that(monkeypatch, REPORT % url)
    assert resolved(["apache-tvm==0.25.0"], TVM) == [Wheel("apache-tvm", "0.25.0", url, "abc", 1500)]
    assert {"--dry-run", "--only-binary", ":all:"} <= set(asked[0])
    assert "--no-deps" not in asked[0]
    assert size_of("file:///nowhere/x.whl") is None
    assert size_of("nothing") is None


def test_releases_are_listed_from_the_oldest_without_those_that_are_not_final(monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that(monkeypatch, "x (2)\nAvailable versions: 0.27.0.post1, 0.27.0, 0.26.0rc1, odd!, 0.9\n  LATEST: 1\n")
    assert list(map(str, versions("x"))) == ["0.9", "0.27.0", "0.27.0.post1"]
    pip_that(monkeypatch, "something else")
    with pytest.raises(ReleaseError, match="name them with --between"):
        versions("x")


def test_the_size_of_a_download_is_told_with_its_largest_wheels() -> None:
    found = [Wheel(f"w{size}", "1", "", "", size * 1000) for size in (1, 2, 3000, 900)] + [Wheel("odd", "1", "")]
    said = "5 wheels, 4 MB to download, and 1 whose size the index does not say"
    assert told(found) == f"{said} (the largest: w3000 1 3 MB, w900 1 900 kB, w2 1 2 kB)"


# Environments


class Index:
    """Stands in for an index: every requirement is one wheel, and making an environment writes one file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sha256: str = "1") -> None:
        self.sha256, self.asked, self.made = sha256, list[list[str]](), 0
        self.reachable, self.has_numpy_of_here = True, True
        self.refuses: type[ReleaseError] = Unreachable
        monkeypatch.setattr(wheels, "resolved", self.resolved)
        monkeypatch.setattr(environments, "_make", self.make)

    def resolved(self, wanted: list[str], asked: str, alone: bool = False) -> list[Wheel]:
        self.asked.append([*wanted, *(["alone"] if alone else [])])
        if not self.reachable:
            raise self.refuses(f"{asked}: no index; connect it")
        if not self.has_numpy_of_here and any(one.startswith("numpy==") for one in wanted):
            raise ReleaseError("conflict")
        pairs = (one.partition("==") for one in wanted)
        return [Wheel(name, version or "1.0", "url", self.sha256, 10**6) for name, _, version in pairs]

    def make(self, folder: Path, *_: object) -> None:
        self.made += 1
        (folder / "bin").mkdir()
        (folder / "bin" / "python").write_text("x" * 100, encoding="utf-8")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Index(monkeypatch)


def test_an_environment_is_made_once_and_its_size_is_told_first(index: Index) -> None:
    said: list[str] = []
    first = environment(pip_release(TVM), ["apache-tvm-ffi==0.1.12"], said.append)
    assert (
        said == [f"{TVM}: {told([Wheel('apache-tvm', '0.25.0', '', '', 10**6)] * 3)}"[: len(said[0])]] or len(said) == 1
    )
    assert "3 wheels, 3 MB to download" in said[0]
    again = environment(pip_release(TVM), ["apache-tvm-ffi==0.1.12"], said.append)
    assert (first.folder, index.made, len(said)) == (again.folder, 1, 1)
    assert again.versions["apache-tvm-ffi"] == "0.1.12"
    assert again.execnet == f"popen//python={again.folder}/bin/python"


def test_another_content_of_the_same_words_is_another_environment(index: Index) -> None:
    first = environment(pip_release(TVM), [], lambda _: None)
    index.sha256 = "2"
    assert environment(pip_release(TVM), [], lambda _: None).folder != first.folder


def test_what_the_user_names_is_not_named_again_by_the_adapter(index: Index) -> None:
    environment(pip_release(f"{TVM} apache_tvm_ffi==0.1.9"), ["apache-tvm-ffi==0.1.12"], lambda _: None)
    assert index.asked[0][:2] == ["apache-tvm==0.25.0", "apache_tvm_ffi==0.1.9"]
    assert not any("0.1.12" in one for one in index.asked[0])


def test_numpy_is_that_of_this_python_where_it_goes_with_the_library(index: Index) -> None:
    environment(pip_release(TVM), [], lambda _: None)
    assert index.asked[-1][-1].startswith("numpy==")
    index.has_numpy_of_here = False
    environment(pip_release(TVM), [], lambda _: None)
    assert index.asked[-1][-1] == "numpy"
    index.has_numpy_of_here = True
    environment(pip_release(f"{TVM} numpy==1.26.4"), [], lambda _: None)
    assert index.asked[-1] == ["apache-tvm==0.25.0", "numpy==1.26.4"]


@pytest.mark.parametrize("refuses", [Unreachable, ReleaseError])
def test_without_an_index_what_was_made_of_the_same_words_is_used_and_said_to_be(
    index: Index, refuses: type[ReleaseError]
) -> None:
    said: list[str] = []
    first = environment(pip_release(TVM), [], said.append)
    index.reachable, index.refuses = False, refuses
    assert environment(pip_release(TVM), [], said.append).folder == first.folder
    assert said[-1].startswith(f"{TVM}: no index; using what was made of it before, in ")
    with pytest.raises(refuses):
        environment(pip_release("pip:apache-tvm==0.26.0"), [], said.append)


def test_what_does_not_fit_on_the_disk_is_refused_before_the_download(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 * 10**6))
    with pytest.raises(ReleaseError, match="about 6 MB are needed and 5 MB are free in"):
        environment(pip_release(TVM), [], lambda _: None)
    assert index.made == 0


def test_a_library_of_nvidia_s_is_laid_over_this_python_s_packages(tmp_path: Path) -> None:
    libraries = tmp_path / "lib" / "python3.12" / "site-packages" / "nvidia" / "cudnn" / "lib"
    libraries.mkdir(parents=True)
    for name in ("libcudnn.so.9", "libcudnn_ops.so.9"):
        (libraries / name).touch()
    laid = Environment(tmp_path, {"overlay": "/here", "wheels": "nvidia-cudnn-cu13==9.19.0.56 --hash=sha256:1"})
    python = f"popen//python={tmp_path}/bin/python"
    assert laid.execnet == f"{python}//env:LD_LIBRARY_PATH={libraries}//env:LD_PRELOAD={libraries}/libcudnn.so.9"
    assert laid.versions == {"nvidia-cudnn-cu13": "9.19.0.56"}


def test_an_overlay_is_asked_for_alone_and_sees_the_packages_of_this_python(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment(pip_release("pip:nvidia-cudnn-cu13==9.19.*"), [], lambda _: None)
    assert index.asked == [["nvidia-cudnn-cu13==9.19.*", "alone"]]
    monkeypatch.undo()
    monkeypatch.setattr(wheels, "install", lambda *_: None)
    made = tmp_path / "made"
    made.mkdir()
    environments._make(made, [], True, "x")
    code = "import numpy, sys; print(sys.prefix)"
    done = subprocess.run([made / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(made)


# What is kept


def test_a_kept_tree_counts_all_of_its_files_and_one_in_use_is_not_dropped(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(b"x" * 600)
        (folder / "link").symlink_to("/usr")

    store = KeptTrees(tmp_path, limit=1000)
    first = store.add({"asked": "one"}, fill)
    store.add({"asked": "two"}, fill)
    assert [entry.size for entry in store.entries()] == [600, 600]
    assert "2 releases; 0.0 of 0 MB" in next(kept.releases(store, False))
    old = time.time() - 10 * KeptTrees.spared
    os.utime(first, (old, old))
    store.add({"asked": "three"}, fill)
    assert {entry.fields["asked"] for entry in store.entries()} == {"two", "three"}
    assert list(kept.releases(store, True)) == [f"releases: removed 2 entries, 0.0 MB, from {tmp_path}"]


# Debian packages


def test_the_files_that_apt_names_are_read() -> None:
    printed = "'http://m/pool/a_1_arm64.deb' a_1_arm64.deb 123 SHA256:ab\nReading...\n"
    assert debs.files_of(printed) == [debs.DebFile("http://m/pool/a_1_arm64.deb", "a_1_arm64.deb", 123, "SHA256:ab")]


def test_another_suite_is_asked_of_this_machine_s_mirrors_with_their_keys() -> None:
    configured = "http://m/debian/\tmain\t/usr/share/k.gpg\nhttp://m/debian/\tmain\t/usr/share/k.gpg\n"
    configured += "http://m/debian-security/\tmain\t/k.gpg\nhttp://n/\tcontrib\t\n"
    assert debs.sources_of(configured, "trixie", "arm64").splitlines() == [
        "deb [arch=arm64 signed-by=/usr/share/k.gpg] http://m/debian/ trixie main",
        "deb [arch=arm64] http://n/ trixie contrib",
    ]


def test_an_unpacked_root_has_its_loader_where_programs_ask_for_it(tmp_path: Path) -> None:
    for root in ("old", "new"):
        (tmp_path / root / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "old" / "lib").mkdir()
    (tmp_path / "old" / "lib" / "ld.so").touch()
    for root in ("old", "new"):
        debs.merge_usr(tmp_path / root)
        assert (tmp_path / root / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "old" / "usr" / "lib" / "ld.so").exists()


# Workers


def adapter(**members: Any) -> SimpleNamespace:
    return SimpleNamespace(**members)


def test_a_folder_is_built_against_and_named_to_the_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[str] = []

    def build(arguments: dict[str, str], _: Callable[[str], None]) -> str:
        built.append(arguments["root"])
        return ""

    monkeypatch.setattr(backends, "load", lambda _: adapter(BUILD=adapter(run=build)))
    spec = providing.provided(WorkerSpec("acl", "gemm", f"root:{tmp_path}"), lambda _: None)
    assert (spec.execnet, spec.argument, built) == ("popen", f"gemm,root={tmp_path}", [str(tmp_path)])
    monkeypatch.setattr(debs, "root_of", lambda release, _: tmp_path / release.suite)
    spec = providing.provided(WorkerSpec("acl", "", "deb:libx/sid"), lambda _: None)
    assert spec.argument == f"root={tmp_path}/sid"
    assert isinstance(parse("--against", f"root:{tmp_path}"), RootRelease)
    assert isinstance(parse("--against", "deb:libx/sid"), DebRelease)


def test_a_place_is_left_as_it_is() -> None:
    spec = WorkerSpec("scripted", execnet="popen//python=/x")
    assert providing.provided(spec, lambda _: None) is spec


def test_the_worker_of_a_release_is_expected_to_load_it(index: Index) -> None:
    spec = providing.provided(WorkerSpec("tvm", execnet=TVM), lambda _: None)
    assert spec.expected == ("apache-tvm", "0.25.0")
    assert index.asked[0][:2] == ["apache-tvm==0.25.0", "apache-tvm-ffi==0.1.12"]


@pytest.mark.parametrize(
    ("wheel", "library", "fits"),
    [
        ("9.19.0.56", "9.19.0", True),
        ("9.19.0.56", "9.19.1", False),
        ("2.9.1", "2.9.1+cpu", True),
        ("0.27.0.post1", "0.27.0", True),
        ("9.19.0.56", "9", False),
        ("9.19.0.56", "9.20.0", False),
    ],
)
def test_another_version_than_was_installed_is_refused(wheel: str, library: str, fits: bool) -> None:
    loaded = Fingerprint("cudnn", "gpu", library, "", software={"cudnn": library})
    spec = WorkerSpec("cudnn", expected=("nvidia-cudnn-cu13", wheel))
    if fits:
        spec.require_expected(loaded)
        return
    with pytest.raises(Unavailable, match=f"nvidia-cudnn-cu13 {wheel} was installed for it"):
        spec.require_expected(loaded)


def test_a_run_is_set_against_the_release_that_was_made(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    other = script(runner.path / "tests", version="1.0", noise=0.01, rules=[{"seconds": 1e-5}])

    def made(spec: WorkerSpec, _: object) -> WorkerSpec:
        assert spec.execnet == "pip:scripted==1.0"
        return replace(spec, execnet=f"popen//env:NEVERSLOWER_SCRIPT={other}")

    monkeypatch.setattr(run, "provided", made)
    new = {"version": "2.0", "noise": 0.01, "rules": [{"seconds": 1e-5}]}
    result = runner.run(new, "tests/test_latency.py", "--against", "pip:scripted==1.0")
    result.stdout.fnmatch_lines(["*compared with pip:scripted==1.0 (scripted 1.0 (0))", "new against old: 0 slower, *"])
    monkeypatch.setattr(run, "provided", lambda *_: pytest.fail("nothing is made where nothing is measured"))
    assert runner.run(new, "--collect-only", "--against", "pip:scripted==1.0").ret == 0


def test_a_release_that_can_t_be_had_ends_the_run_in_one_line(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> WorkerSpec:
        raise ReleaseError("pip:x==1: the index has no such wheel")

    monkeypatch.setattr(run, "provided", refuse)
    result = runner.run({"rules": []}, "--against", "pip:x==1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: pip:x==1: the index has no such wheel"])


@pytest.mark.parametrize(
    ("backend", "text", "why"),
    [
        ("tvm", "pip:torch==2.9.1", "torch is no library of the backend tvm; it is measured with apache-tvm, apache-"),
        ("tvm", "pip:nvidia-cudnn-cu13==9.19.0.56", "nvidia-cudnn-cu13 is no library of the backend tvm"),
        ("tvm", "deb:libx/sid", "deb:libx:arm64/sid: the backend tvm is built against no folder; it is measured with"),
        ("scripted", "root:/", "root:/: the backend scripted is built against no folder"),
        ("acl", "pip:torch==2.9.1", "torch is no library of the backend acl; no wheels are known for it"),
        ("cudnn", "pip:torch==2.9.1", ""),
        ("cudnn", "pip:nvidia-cudnn-cu13==9.19.0.56", ""),
        ("onednn", "pip:torch==2.9.1", ""),
        ("tvm", "pip:Apache_TVM==0.25.0", ""),
    ],
)
def test_wheels_of_another_library_are_refused_before_anything_is_asked(
    index: Index, monkeypatch: pytest.MonkeyPatch, backend: str, text: str, why: str
) -> None:
    monkeypatch.setattr(debs, "root_of", lambda *_: pytest.fail("apt was asked"))
    if not why:
        providing.require_of_backend(backends.load(backend).CAPABILITIES, backend, pip_release(text))
        return
    with pytest.raises(ReleaseError, match=re.escape(why)):
        providing.provided(WorkerSpec(backend, execnet=text), lambda _: None)
    assert not index.asked


def test_adapters_know_what_goes_with_a_release() -> None:
    tvm: Any = backends.load("tvm")
    assert tvm.companions("apache-tvm", "0.26.0") == ("apache-tvm-ffi==0.1.14.post1",)
    assert tvm.companions("apache-tvm", "9.9") == tvm.companions("torch", "2.9.1") == ()
    assert providing.companions(backends.load("onednn"), pip_release("pip:torch==2.9.1")) == ()


def test_a_pip_that_downloads_what_it_is_asked_about_is_replaced_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(asking, "version", lambda _: "26.3")
    assert kept_pip() is None
    monkeypatch.setattr(asking, "version", lambda _: "25.2")
    got: list[str] = []

    def get(folder: Path, wanted: str) -> None:
        got.append(wanted)
        (folder / "pip").mkdir()

    monkeypatch.setattr(asking, "_get_pip", get)
    assert kept_pip() == kept_pip()
    assert got == ["pip>=26.0"]


def test_where_no_newer_pip_can_be_got_the_own_one_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(asking, "version", lambda _: "23.2")

    def get(*_: object) -> None:
        raise Unreachable("no index")

    monkeypatch.setattr(asking, "_get_pip", get)
    assert kept_pip() is None


def test_this_python_can_ask_pip() -> None:
    assert asking._run(["--version"], "x", {}).startswith("pip ")


def apt_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: str) -> list[list[str]]:
    """Let apt fail so, and return what it is asked."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=100, stdout="", stderr=stderr)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return asked


@pytest.mark.parametrize(
    ("stderr", "kind", "why"),
    [
        ("W: Temporary failure resolving 'mirror'", Unreachable, "no mirror of Debian's packages can be reached"),
        ("E: no Release file\nE: more", ReleaseError, "deb:libx:arm64/sid: no Release file"),
    ],
)
def test_what_apt_says_is_one_line_and_its_lists_are_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: str, kind: type[ReleaseError], why: str
) -> None:
    asked = apt_that(monkeypatch, tmp_path, stderr)
    with pytest.raises(kind, match=why):
        debs.root_of(DebRelease("libx", suite="sid"), lambda _: None)
    assert asked[0][:2] == ["apt-get", "indextargets"]
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ReleaseError, match="apt-get and dpkg-deb is not there; unpack the package, and name root:"):
        debs.root_of(DebRelease("libx"), lambda _: None)


def test_the_other_side_is_named_as_the_user_names_it(index: Index, tmp_path: Path) -> None:
    values = {option.key: option.default for option in OPTIONS} | {"backend": ["tvm"], "against": TVM}
    spec = providing.provided(options.plan(values).against["tvm"], lambda _: None)
    assert spec.execnet.startswith("popen//python=")
    assert spec.place == TVM
    assert providing.provided(WorkerSpec("tvm", execnet=TVM), lambda _: None).place == TVM
    with closing(Journal(tmp_path / "j.jsonl")) as journal:
        Campaign({"tvm": WorkerSpec("tvm")}, Settings(), journal, against={"tvm": spec}).run([])
    (campaign, *_) = (json.loads(line) for line in (tmp_path / "j.jsonl").read_text(encoding="utf-8").splitlines())
    assert campaign["against"] == TVM
    old = tmp_path / "python"
    old.touch()
    assert options.plan(values | {"against": str(old)}).against["tvm"].place == str(old)
