"""The TVM adapter: what it says without tvm, and one real tvm on tiny layers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from backends.base import BackendOptions
from backends.tvm import CAPABILITIES, databases, health, reproduce, searches
from backends.tvm.api import Api
from backends.tvm.backend import TVM
from backends.tvm.compiled import Prepared
from backends.tvm.kernels import KERNEL, Kernels, kernels_of
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.observation import Plan, Searched
from neverslower.files.kept import KeptFolder, KeptFolders
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, parse_descriptor
from neverslower.problem.selection import Selection
from neverslower.problem.subject import Search, Subject, TunedLog
from neverslower.worker.process import Worker, WorkerSpec
from selftests.support import ROOT, alive, children, eventually, known, needs_proc, problem

needs_tvm = pytest.mark.skipif(find_spec("tvm") is None, reason="apache-tvm is not installed")
TINY = parse_descriptor("mb1_ic4oc8_ih6kh3ph1")
GROUPED = parse_descriptor("mb1_g2ic4oc8_ih6kh3ph1")
DEPTHWISE = parse_descriptor("mb1_g6ic6oc6_ih6kh3ph1")
SEARCH = Search(TINY, trials=4, seed=0)

# What it can do


def test_what_it_measures_by_itself_are_layers_that_there_are() -> None:
    for layers in (CAPABILITIES.quick_layers, CAPABILITIES.tuned_layers):
        assert len(Selection(layers=layers).places()) == len(layers)


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("layout", Layout)
def test_every_format_but_tf32_can_be_had(dtype: DType, layout: Layout) -> None:
    why = CAPABILITIES.refusal(replace(GROUPED, dtype=dtype, layout=layout))
    assert why == ("no tf32 (has bfloat16, float16, float32)" if dtype is DType.TF32 else None)


def test_it_compiles_and_searches() -> None:
    assert CAPABILITIES.compiles
    assert CAPABILITIES.exclusive
    assert CAPABILITIES.modules == ("tvm",)
    assert not CAPABILITIES.on_request


# Is this tvm fit for use?

PAIR = health.Installed("0.27.0.post1", "0.1.15.post2", "0123")
REMEDY = "install the pair: pip install 'apache-tvm==0.27.0.post1' 'apache-tvm-ffi==0.1.14.post1'"


@pytest.fixture
def store(tmp_path: Path) -> KeptFolders:
    return KeptFolders(tmp_path / "store")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lets some code be the tvm that a child process imports; returns a file that counts its imports."""
    package, imports = tmp_path / "packages" / "tvm", tmp_path / "imports"
    package.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))

    def write(code: str) -> Path:
        (package / "__init__.py").write_text(f"open({str(imports)!r}, 'a').write('x')\n{code}", encoding="utf-8")
        return imports

    return write


SOUND = """
class _Any:
    def __getattr__(self, name): return _Any()
    def __call__(self, *arguments, **keywords): return _Any()
ir = te = IRModule = _Any()
"""


def test_a_pair_that_crashes_is_named_with_the_one_to_install(
    store: KeptFolders, stand_in: Callable[[str], Path]
) -> None:
    imports = stand_in("import os; os.kill(os.getpid(), 11)")
    for asked in (1, 2):  # It is no news that is remembered: another ffi may be installed meanwhile.
        with pytest.raises(Unavailable) as caught:
            health.check(PAIR, store)
        assert str(caught.value) == (
            "apache-tvm 0.27.0.post1 does not work with apache-tvm-ffi 0.1.15.post2 "
            f"(writing JSON ended it with signal 11); {REMEDY}"
        )
        assert imports.read_text(encoding="utf-8") == "x" * asked
    assert store.entries() == []


def test_a_pair_that_does_not_import_is_told_in_its_own_words(
    store: KeptFolders, stand_in: Callable[[str], Path]
) -> None:
    stand_in("raise ImportError('libtvm.so: undefined symbol')")
    with pytest.raises(Unavailable, match=r"\(ImportError: libtvm.so: undefined symbol\); install the pair"):
        health.check(PAIR, store)


def test_a_pair_that_writes_something_else_is_not_fit(store: KeptFolders, stand_in: Callable[[str], Path]) -> None:
    stand_in(SOUND + "def _refuse(one, other): raise ValueError('not equal')\nir.assert_structural_equal = _refuse")
    with pytest.raises(Unavailable, match="ValueError: not equal"):
        health.check(PAIR, store)


def test_a_sound_pair_is_tried_once(store: KeptFolders, stand_in: Callable[[str], Path]) -> None:
    imports = stand_in(SOUND)
    for _ in range(3):
        health.check(PAIR, store)
    assert imports.read_text(encoding="utf-8") == "x"
    for other in ({"tvm": "0.27.1"}, {"ffi": "0.1.14.post1"}, {"build": "4567"}):
        health.check(replace(PAIR, **other), store)
    assert imports.read_text(encoding="utf-8") == "xxxx"
    assert {one.fields["kind"] for one in store.entries()} == {"health"}


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("0.27.0.post1", REMEDY),
        ("0.26.0", "install the pair: pip install 'apache-tvm==0.26.0' 'apache-tvm-ffi==0.1.14.post1'"),
        ("0.25.0", "install the pair: pip install 'apache-tvm==0.25.0' 'apache-tvm-ffi==0.1.12'"),
        ("0.2.7", "a pair that works: pip install 'apache-tvm==0.27.*' 'apache-tvm-ffi==0.1.14.post1'"),
        ("1.0.0", "a pair that works: pip install 'apache-tvm==0.27.*' 'apache-tvm-ffi==0.1.14.post1'"),
    ],
)
def test_the_remedy_is_that_of_the_release(version: str, remedy: str) -> None:
    assert health.remedy(version) == remedy


@pytest.mark.parametrize("missing", ["apache-tvm", "apache-tvm-ffi"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def distribution(package: str) -> SimpleNamespace:
        if package == missing:
            raise PackageNotFoundError(package)
        return SimpleNamespace(version="1.0", read_text=lambda name: None)

    monkeypatch.setattr(health, "distribution", distribution)
    with pytest.raises(Unavailable, match=rf"^{missing} is not installed in this Python; `pip install apache-tvm`"):
        health.installed()


RECORD = "tvm/__init__.py,sha256=aaaa,10\ntvm/lib/libtvm_runtime.so,sha256=bbbb,20\n"
Install = Callable[..., health.Installed]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays down what pip leaves of tvm and its ffi beside the packages; returns what is found of them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("TVM_LIBRARY_PATH", raising=False)

    def lay(record: str = RECORD, ffi: str = "tvm_ffi/core.so,sha256=cccc,30\n", **files: str) -> health.Installed:
        for package, version, text in (("apache_tvm", "0.27.0", record), ("apache_tvm_ffi", "0.1.14", ffi)):
            folder = tmp_path / f"{package}-{version}.dist-info"
            name = package.replace("_", "-")
            (folder / "METADATA").parent.mkdir(exist_ok=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (folder / "RECORD").write_text(text)
        for name, text in files.items():
            (tmp_path / "apache_tvm-0.27.0.dist-info" / f"{name}.json").write_text(text)
        return health.installed()

    return lay


def test_one_wheel_is_one_build_wherever_it_is_installed(install: Install) -> None:
    found = install()
    assert (found.tvm, found.ffi) == ("0.27.0", "0.1.14")
    own = "../../../bin/tvmc,sha256=dddd,40\ntvm/__pycache__/__init__.cpython-310.pyc,,\nother/x.py,sha256=eeee,1\n"
    assert install(RECORD + own) == found


def test_two_wheels_of_one_version_are_two_builds(install: Install) -> None:
    builds = {
        install().build,
        install(RECORD.replace("bbbb", "ffff")).build,  # Built otherwise.
        install(RECORD.replace("aaaa", "ffff")).build,  # Its Python changed.
        install(ffi="tvm_ffi/core.so,sha256=ffff,30\n").build,
    }
    assert len(builds) == 4


def test_a_checkout_s_build_changes_with_its_files(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    program, library = checkout / "python" / "tvm" / "__init__.py", checkout / "build" / "lib" / "libtvm_runtime.so"
    for path in (program, library):
        path.parent.mkdir(parents=True)
        path.write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(checkout / "python"))

    def build() -> str:
        return install("", direct_url='{"url": "file:///checkout", "dir_info": {"editable": true}}').build

    builds = [build()]
    assert build() == builds[0]
    for path in (program, library):
        os.utime(path, (1e9, 1e9))
        builds.append(build())
    assert len(set(builds)) == 3


def test_libraries_from_elsewhere_are_another_build(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "libtvm_runtime.so").write_text("", encoding="utf-8")
    monkeypatch.setenv("TVM_LIBRARY_PATH", str(tmp_path / "elsewhere"))
    assert install().build != found.build


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PATH": ""}, "a C++ compiler"),
        ({"CXX": "no-such-compiler"}, "'no-such-compiler'"),
        ({"CC": "/nowhere/cc"}, "'/nowhere/cc'"),
        ({"CXX": "no-such-compiler", "CC": sys.executable}, "'no-such-compiler'"),
    ],
)
def test_a_missing_compiler_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable, match="apt-get install g") as caught:
        health.require_compiler()
    assert "g++" in str(caught.value)
    assert named in str(caught.value)


def test_the_user_s_own_compiler_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", sys.executable)
    health.require_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "clang").symlink_to(sys.executable)
    health.require_compiler()


# Searches and databases, without tvm


def search_with(monkeypatch: pytest.MonkeyPatch, store: KeptFolders, *candidates: tuple[float, ...]) -> Searched:
    """What is told of a search whose candidates took so long; 1e10 is TVM's word for one that failed."""
    found = SimpleNamespace(get_all_tuning_records=lambda: [SimpleNamespace(run_secs=one) for one in candidates])
    monkeypatch.setattr(searches, "search", lambda api, wanted, folder: None)
    monkeypatch.setattr(databases, "read", lambda folder, api: databases.Database("hash", 1, found))
    return of_version(store).tune(SEARCH)


def of_version(store: KeptFolders, tvm_version: str = "0.27.0", target: str = "this", **installed: str) -> TVM:
    """The backend on a stand-in for one installed tvm."""
    api: Any = SimpleNamespace(version=tvm_version, target=target, named=str)
    pair = replace(PAIR, **installed)
    return TVM(api, pair, kernels_of(api, pair, store), 1)


def test_the_best_candidate_is_the_one_that_was_fastest_once(
    monkeypatch: pytest.MonkeyPatch, store: KeptFolders
) -> None:
    found = search_with(monkeypatch, store, (3e-3, 4e-3), (5e-3, 2e-3), (1e10,), ())
    assert (found.best, found.trials, found.remembered) == (2e-3, 4, False)
    assert search_with(monkeypatch, store, (3e-3,)).remembered


@pytest.mark.parametrize("candidates", [(), ((),), ((1e10,), (1e10, 1e10))], ids=["none", "not one", "all failed"])
def test_a_search_of_which_nothing_ran_is_none(
    monkeypatch: pytest.MonkeyPatch, store: KeptFolders, candidates: tuple[tuple[float, ...], ...]
) -> None:
    with pytest.raises(Unsupported, match="no schedule that runs"):
        search_with(monkeypatch, store, *candidates)


@pytest.mark.parametrize(
    "other",
    [{"tvm_version": "0.25.0"}, {"ffi": "0.1.12"}, {"build": "4567"}, {"target": "another"}],
    ids=["version", "ffi", "build", "target"],
)
def test_what_one_tvm_made_is_never_another_s(
    monkeypatch: pytest.MonkeyPatch, store: KeptFolders, other: dict[str, str]
) -> None:
    monkeypatch.setattr(Kernels, "_build", lambda self, subject, folder: None)
    search_with(monkeypatch, store, (3e-3,))
    subjects = [Subject(TINY), Subject(TINY, str(TunedLog(SEARCH)))]
    for one in subjects:
        of_version(store).compile(one)
    assert of_version(store).missing(subjects) == []  # As another environment with the very same tvm finds them.
    assert of_version(store, **other).missing(subjects) == subjects
    with pytest.raises(Unsupported, match="has not been made"):
        of_version(store, **other).compile(subjects[1])


# What it keeps and times, without tvm


def keeping(store: KeptFolders, **others: Any) -> TVM:
    """The adapter of some version, on some processor, with some log; nothing is compiled."""
    made: dict[str, Any] = {"version": "0.27.0", "target": "this", "ffi": "0.1.14", "log": "one"} | others
    records = SimpleNamespace(get_all_tuning_records=list)
    api: Any = SimpleNamespace(version=made["version"], target=made["target"])
    installed = replace(PAIR, ffi=made["ffi"])
    database = made["log"] and databases.Database(made["log"], 1, records)
    return TVM(api, installed, kernels_of(api, installed, store, database), 1)


@pytest.mark.parametrize(
    ("others", "one"),
    [
        pytest.param({"version": "0.26.0"}, TINY, id="version"),
        pytest.param({"ffi": "0.1.13"}, TINY, id="ffi"),
        pytest.param({"target": "another"}, TINY, id="processor"),
        pytest.param({"log": "other"}, TINY, id="log"),
        pytest.param({"log": None}, TINY, id="no log"),
        pytest.param({}, replace(TINY, dtype=DType.FLOAT16), id="dtype"),
        pytest.param({}, replace(TINY, layout=Layout.NHWC), id="layout"),
        pytest.param({}, TINY.prune(1), id="channels"),
    ],
)
def test_a_kernel_is_kept_by_everything_that_it_was_made_from(
    monkeypatch: pytest.MonkeyPatch, store: KeptFolders, others: dict[str, Any], one: ConvProblem
) -> None:
    monkeypatch.setattr(Kernels, "_build", lambda self, subject, folder: None)
    keeping(store).compile(Subject(TINY))
    assert keeping(store).missing([Subject(TINY)]) == []
    assert keeping(store, **others).missing([Subject(one)]) == [Subject(one)]


def test_every_call_of_a_round_is_timed() -> None:
    calls: list[str] = []
    machine = SimpleNamespace(module={"invoke_stateful": calls.append})
    held = Prepared(machine, Layout.NCHW, [], Plan("untuned"), lambda: float(len(calls)))
    assert [held.run(count) for count in (1, 7)] == [1.0, 7.0]


def work_folder(path: Path, shapes: int = 2) -> Path:
    path.mkdir(parents=True)
    (path / databases.WORKLOADS).write_text("[]\n" * shapes, encoding="utf-8")
    (path / databases.RECORDS).write_text("[]\n", encoding="utf-8")
    return path


def test_a_database_is_told_apart_by_its_content(tmp_path: Path) -> None:
    one, same, other = (work_folder(tmp_path / name, shapes) for name, shapes in (("a", 2), ("b", 2), ("c", 3)))
    assert databases.identify(one) == databases.identify(same)
    assert databases.identify(one)[0] != databases.identify(other)[0]
    assert [databases.identify(path)[1] for path in (one, other)] == [2, 3]
    (same / databases.RECORDS).write_text("[1]\n", encoding="utf-8")
    assert databases.identify(one) != databases.identify(same)


@pytest.mark.parametrize("missing", [databases.WORKLOADS, databases.RECORDS])
def test_a_folder_without_a_database_names_the_file(tmp_path: Path, missing: str) -> None:
    folder = work_folder(tmp_path / "work")
    (folder / missing).unlink()
    with pytest.raises(Unavailable) as caught:
        databases.identify(folder)
    assert str(caught.value) == (
        f"{folder / missing}: No such file or directory; give the work folder of a MetaSchedule search, "
        "tvm:FOLDER or tvm:cuda,database=FOLDER"
    )


# Two releases of TVM's interface


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("TensorStructInfo", "TensorType"), "TensorStructInfo"), (("TensorType",), "TensorType")],
    ids=["0.25", "0.27"],
)
def test_tensors_are_declared_as_the_release_has_it(names: tuple[str, ...], wanted: str) -> None:
    types = {name: MagicMock(return_value=name) for name in names}
    relax = SimpleNamespace(Var=MagicMock(), BlockBuilder=MagicMock(), op=MagicMock(), **types)
    api = Api.__new__(Api)
    api.relax = relax
    api.module(TINY)
    declared = [call.args for call in relax.Var.call_args_list]
    assert declared == [("inputs", wanted), ("weights", wanted)]
    assert [call.args for call in types[wanted].call_args_list] == [
        ((1, 4, 6, 6), "float32"),
        ((8, 4, 3, 3), "float32"),
    ]


# A failure told as a reproduction


def program(problem: ConvProblem, plan: Plan = Plan("untuned", (), False)) -> str:  # noqa: B008  (it is frozen)
    """The Python code in the one line that reproduces a problem."""
    (line,) = reproduce(problem, plan, BackendOptions(threads=3)).splitlines()
    threads, python, flag, code = shlex.split(line, comments=True)
    assert (threads, python, flag) == ("TVM_NUM_THREADS=3", "python", "-c")
    compile(code, "<reproduction>", "exec")
    return code


@pytest.mark.parametrize("dtype", sorted(CAPABILITIES.dtypes))
@pytest.mark.parametrize(
    ("one", "words"),
    [
        (TINY, ["[(1, 4, 6, 6), (8, 4, 3, 3)]", "data_layout='NCHW'", "kernel_layout='OIHW'", "groups=1"]),
        (
            replace(GROUPED, layout=Layout.NHWC),
            ["[(1, 6, 6, 4), (8, 3, 3, 2)]", "data_layout='NHWC'", "kernel_layout='OHWI'", "groups=2"],
        ),
        (
            problem(stride=(2, 1), dilation=(1, 2), padding=(0, 1, 2, 3)),
            ["strides=(2,1)", "dilation=(1,2)", "padding=(0,2,1,3)"],
        ),
    ],
    ids=["NCHW", "grouped NHWC", "uneven"],
)
def test_a_reproduction_is_a_python_program_of_one_line(one: ConvProblem, words: list[str], dtype: DType) -> None:
    code = program(replace(one, dtype=dtype))
    assert [word for word in words if word not in code] == []
    assert f"'{dtype}'" in code


def test_a_tuned_reproduction_names_its_database() -> None:
    plan = Plan("tuned 0123456789ab", (), True)
    assert program(TINY, plan) == program(TINY)
    assert reproduce(TINY, plan, BackendOptions()).endswith("# tuned 0123456789ab: compile within its database")


@needs_tvm
def test_a_reproduction_runs(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError", encoding="utf-8")  # Which tvm's ffi would import for 5 s.
    line = reproduce(
        replace(GROUPED, dtype=DType.BFLOAT16, layout=Layout.NHWC), Plan("untuned", (), False), BackendOptions()
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mean (ms)" in done.stdout


# A real tvm


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> KeptFolders:
    """What this module's workers keep, apart from the user's."""
    return KeptFolders(tmp_path_factory.mktemp("cache") / "never-slower" / "tvm")


@pytest.fixture(scope="module")
def spec(cache: KeptFolders) -> WorkerSpec:
    return WorkerSpec("tvm", variables={"XDG_CACHE_HOME": str(cache.root.parent.parent)})


@pytest.fixture(scope="module")
def worker(spec: WorkerSpec) -> Iterator[Worker]:
    with Worker(spec) as started:
        yield started


OWN_LOG, PADDED = str(TunedLog(SEARCH)), str(TunedLog(SEARCH, padded=True))


@pytest.fixture(scope="module")
def searched(worker: Worker) -> Searched:
    """The one search that this module makes."""
    return worker.tune(SEARCH, 300.0)


def of_kind(cache: KeptFolders, kind: str) -> list[KeptFolder]:
    return [one for one in cache.entries() if one.fields["kind"] == kind]


def kernel(cache: KeptFolders, subject: Subject) -> Path:
    (found,) = [one.path for one in of_kind(cache, "kernel") if one.fields["subject"] == subject.key]
    return found / KERNEL


@needs_tvm
@pytest.mark.parametrize(
    "one",
    [
        pytest.param(TINY, id="dense"),
        pytest.param(replace(TINY, layout=Layout.NHWC), id="NHWC"),
        pytest.param(replace(TINY, dtype=DType.FLOAT16), id="float16"),
        pytest.param(replace(TINY, dtype=DType.BFLOAT16, layout=Layout.NHWC), id="bfloat16 NHWC"),
        pytest.param(GROUPED, id="grouped"),
        pytest.param(replace(GROUPED, dtype=DType.FLOAT16, layout=Layout.NHWC), id="grouped float16 NHWC"),
        pytest.param(DEPTHWISE, id="depthwise"),
        pytest.param(
            problem(6, height=9, width=8, batch=2, stride=(2, 1), dilation=(1, 2), padding=(0, 1, 2, 3)), id="uneven"
        ),
        pytest.param(
            problem(5, height=9, width=8, kernel=(1, 3), stride=(1, 2), padding=(1, 0, 0, 2), layout=Layout.NHWC),
            id="uneven NHWC",
        ),
    ],
)
def test_outputs_are_right(worker: Worker, one: ConvProblem) -> None:
    found = worker.examine(one.key)
    assert known(found.error) <= known(found.tolerance)
    assert (found.plan.name, found.plan.tuned) == ("untuned", False)
    assert found.plan.steps
    assert all(step.endswith(" untuned") for step in found.plan.steps)
    assert 0 < found.seconds_per_call < 0.1


@needs_tvm
def test_the_fingerprint_names_what_a_result_depends_on(worker: Worker) -> None:
    found = worker.fingerprint
    assert set(found.software) == {"apache-tvm", "apache-tvm-ffi", "tvm build", "llvm", "llvm cpu", "python"}
    assert found.version == found.software["apache-tvm"]
    assert found.build == f"ffi-{found.software['apache-tvm-ffi']}"
    assert (found.state["schedules"], found.state["threads"]) == ("untuned", "1")
    assert found.software["llvm cpu"]
    assert worker.remarks == ()


@needs_tvm
def test_a_pruned_output_is_the_slice(worker: Worker) -> None:
    error, tolerance = worker.agree(GROUPED.key, GROUPED.prune(2).key)
    assert error <= tolerance


@needs_tvm
def test_a_kernel_is_compiled_once(worker: Worker, cache: KeptFolders) -> None:
    one = problem(11)
    assert worker.missing([one.key]) == [one.key]
    worker.compile(one.key)
    assert worker.missing([one.key]) == []
    made, before = kernel(cache, Subject(one)).stat(), len(cache.entries())
    worker.examine(one.key)
    worker.measure(one.key, one.key, 2)
    after = kernel(cache, Subject(one)).stat()
    assert (after.st_ino, after.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert len(cache.entries()) == before


@needs_tvm
def test_a_damaged_kernel_is_compiled_again(worker: Worker, cache: KeptFolders) -> None:
    one = problem(12)
    worker.compile(one.key)
    path = kernel(cache, Subject(one))
    whole = path.stat().st_size
    os.truncate(path, whole // 2)
    assert worker.missing([one.key]) == [one.key]
    assert not worker.examine(one.key).wrong
    assert kernel(cache, Subject(one)).stat().st_size > whole // 2


@needs_tvm
def test_what_it_can_t_do_is_refused_and_leaves_nothing(worker: Worker, cache: KeptFolders) -> None:
    before = len(cache.entries())
    one = replace(TINY, dtype=DType.TF32)
    for refused in (
        lambda: worker.examine(one.key),
        lambda: worker.compile(one.key),
        lambda: worker.tune(Search(one, 4, 0), 60.0),
    ):
        with pytest.raises(Unsupported, match="no tf32"):
            refused()
    with pytest.raises(Unsupported, match=r"the search \S+/4/7 has not been made"):
        worker.examine(Subject(TINY, str(TunedLog(Search(TINY, 4, 7)))).key)
    assert len(cache.entries()) == before


# Searches


@needs_tvm
def test_a_search_is_made_once(worker: Worker, cache: KeptFolders, searched: Searched) -> None:
    again = worker.tune(SEARCH, 60.0)
    assert again == replace(searched, remembered=True, seconds=again.seconds)
    assert not searched.remembered
    assert searched.trials == 4
    assert 0 < searched.best < 0.1
    assert again.seconds < searched.seconds / 4
    assert searched.target == json.dumps(json.loads(searched.target), separators=(",", ":"))
    (entry,) = [one for one in of_kind(cache, "search") if one.fields["search"] == str(SEARCH)]
    assert entry.fields["target"] == searched.target
    assert databases.identify(entry.path) == (searched.database, 1)


@needs_tvm
def test_the_log_of_a_search_holds_its_shape_and_no_other(worker: Worker, searched: Searched) -> None:
    own = Subject(TINY, OWN_LOG)
    found = worker.examine(own.key)
    assert not found.wrong
    assert (found.plan.name, found.plan.tuned) == (f"tuned {searched.database}", True)
    assert all(f"tuned from {searched.database}, {searched.target}" in step for step in found.plan.steps)
    missed = worker.examine(Subject(TINY.prune(1), OWN_LOG).key)
    assert not missed.wrong
    assert (missed.plan.name, missed.plan.tuned) == ("untuned", False)
    assert not worker.examine(TINY.key).plan.tuned
    assert worker.missing([own.key, TINY.key]) == []


def search_of(cache: KeptFolders, search: Search, one: ConvProblem) -> Search:
    """A stand-in for a search of another problem, whose log holds other shapes."""
    wanted = replace(search, problem=one)
    (entry,) = [known for known in of_kind(cache, "search") if known.fields["search"] == str(search)]
    fields = {**entry.fields, "search": str(wanted)}
    if not cache.find(fields):
        cache.add(fields, lambda folder: copied(entry.path, folder))
    return wanted


def copied(source: Path, folder: Path) -> None:
    for name in (databases.WORKLOADS, databases.RECORDS):
        shutil.copy(source / name, folder)


@needs_tvm
def test_padding_takes_the_tuned_schedule(worker: Worker, searched: Searched) -> None:
    for pruned in (TINY.prune(1), TINY.prune(5)):
        found = worker.examine(Subject(pruned, PADDED).key)
        assert not found.wrong
        assert (found.plan.name, found.plan.tuned) == (f"tuned {searched.database}, padded", True)


@needs_tvm
@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(TINY, id="dense"),
        pytest.param(DEPTHWISE, id="depthwise"),
        pytest.param(GROUPED, id="grouped"),
        pytest.param(replace(GROUPED, layout=Layout.NHWC), id="grouped NHWC"),
    ],
)
@pytest.mark.parametrize("side", [Side.OUT, Side.IN])
def test_padding_leaves_the_output_right(
    worker: Worker, cache: KeptFolders, searched: Searched, whole: ConvProblem, side: Side
) -> None:
    policy = str(TunedLog(search_of(cache, SEARCH, whole), padded=True))
    found = worker.examine(Subject(whole.prune(whole.prune_step(side), side), policy).key)
    assert known(found.error) <= known(found.tolerance)


# A user's database


@contextmanager
def given(worker: Worker, folder: Path) -> Iterator[dict[str, Any]]:
    """The worker's backend opened anew with a database; what opening tells."""
    try:
        yield worker._ask("open", "tvm", str(folder), 1, 0)
    finally:
        worker._ask("open", "tvm", "", 1, 0)


@pytest.fixture
def database(tmp_path: Path, cache: KeptFolders, searched: Searched) -> Path:
    """A work folder that holds one shape on this target."""
    folder = tmp_path / "work"
    folder.mkdir()
    (entry,) = [one for one in of_kind(cache, "search") if one.fields["search"] == str(SEARCH)]
    copied(entry.path, folder)
    return folder


def with_foreign_records(folder: Path, searched: Searched, count: int | None) -> str:
    """Give the first `count` records to another processor, which is named."""
    cpu = json.loads(searched.target)["mcpu"]
    path = folder / databases.RECORDS
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [line.replace(f'"{cpu}"', '"pentium4"') for line in lines[:count]]
    assert changed != lines[:count]
    path.write_text("\n".join([*changed, *lines[len(changed) :]]) + "\n", encoding="utf-8")
    return searched.target.replace(f'"{cpu}"', '"pentium4"')


@needs_tvm
def test_a_database_tunes_its_shapes_and_the_others_fall_back(
    worker: Worker, database: Path, searched: Searched
) -> None:
    with given(worker, database) as opened:
        assert opened["remarks"] == ()
        assert opened["fingerprint"]["state"]["schedules"] == searched.database
        own, pruned = (worker.examine(one.key) for one in (TINY, TINY.prune(1)))
    assert not own.wrong
    assert not pruned.wrong
    assert (own.plan.name, own.plan.tuned) == (f"tuned {searched.database}", True)
    assert (pruned.plan.name, pruned.plan.tuned) == ("untuned", False)
    assert worker.examine(TINY.key).plan.name == "untuned"


@needs_tvm
def test_a_database_of_another_target_is_refused_naming_both(
    worker: Worker, database: Path, searched: Searched
) -> None:
    foreign = with_foreign_records(database, searched, None)
    with pytest.raises(Unavailable) as caught, given(worker, database):
        pass
    text = str(caught.value)
    assert f"{database}: its 4 records are of another target, {foreign}; this is {searched.target}" in text
    assert "tune here, or with the same --threads" in text


@needs_tvm
def test_records_of_another_target_are_refused_and_the_others_used(
    worker: Worker, database: Path, searched: Searched
) -> None:
    foreign = with_foreign_records(database, searched, 1)
    with given(worker, database) as opened:
        (remark,) = opened["remarks"]
        found = worker.examine(TINY.key)
    assert remark == (
        f"{database}: 1 of 4 records are of another target ({foreign}) and refused; this is {searched.target}"
    )
    assert not found.wrong
    assert found.plan.tuned


@needs_tvm
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        # In the middle of the second: half of the file may be just two records, which open.
        (databases.RECORDS, lambda text: text[: text.index("\n") * 3 // 2]),
        (databases.RECORDS, lambda text: "a format of another release\n"),
        (databases.WORKLOADS, lambda text: text[: len(text) // 2]),
        (databases.WORKLOADS, lambda text: "[1,2]\n"),
        (databases.RECORDS, lambda text: f"{text}\n"),
        (databases.RECORDS, lambda text: f"{text}null\n"),
    ],
    ids=["one record and a half", "other records", "half the shapes", "other shapes", "an empty line", "no list"],
)
def test_a_database_that_does_not_open_is_told_and_its_shapes_fall_back(
    worker: Worker, database: Path, file: str, damage: Callable[[str], str]
) -> None:
    text = (database / file).read_text(encoding="utf-8")
    (database / file).write_text(damage(text), encoding="utf-8")
    worker.compile(TINY.key)
    with given(worker, database) as opened:
        (remark,) = opened["remarks"]
        assert worker.missing([TINY.key]) == []  # The same untuned kernel as without a database.
        found = worker.examine(TINY.key)
    assert remark.startswith(f"{database}: tvm {worker.fingerprint.version} can't open it (")
    assert remark.endswith("); its one shape falls back to untuned")
    assert not found.wrong
    assert (found.plan.name, found.plan.tuned) == ("untuned", False)


@needs_tvm
def test_a_folder_without_a_database_is_unavailable(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="give the work folder of a MetaSchedule search") as caught:
        with given(worker, tmp_path):
            pass
    assert str(tmp_path / databases.WORKLOADS) in str(caught.value)


# Killed

TUNING = """
from neverslower.problem.subject import Search
from neverslower.worker.process import Worker, WorkerSpec
with Worker(WorkerSpec("tvm", variables={variables!r}, time_limit=600)) as worker:
    worker.tune(Search.parse({search!r}), 600)
"""


@needs_tvm
@needs_proc
def test_a_coordinator_killed_while_a_search_runs_leaves_no_process(
    spec: WorkerSpec, cache: KeptFolders, worker: Worker
) -> None:
    """By then another worker has tried tvm, so that nothing but the search is written."""
    wanted = Search(problem(64, height=28, width=28), 500, 0)
    code = TUNING.format(variables=dict(spec.variables), search=str(wanted))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    started: set[int] = set()
    try:
        assert eventually(lambda: any(cache.root.glob(".new-*")), patience=60.0)
        workers = children(process.pid)
        started = workers | {pid for worker in workers for pid in children(worker)}
        assert workers
        process.kill()
        assert eventually(lambda: not any(map(alive, started)))
    finally:
        process.kill()
        process.communicate()
        for pid in filter(alive, started):
            os.kill(pid, signal.SIGKILL)
    assert str(wanted) not in {one.fields["search"] for one in of_kind(cache, "search")}
    for left in cache.root.glob(".new-*"):
        shutil.rmtree(left)
