"""TVM: relax's conv2d for this very CPU through LLVM, or for an NVIDIA GPU, untuned or scheduled from a database.

`--backend tvm` measures what TVM makes of a layer that nobody tuned. `--backend tvm:FOLDER` applies the database of
that MetaSchedule work folder; TVM silently uses untuned loops for a shape that the database does not hold.
The plan says which of the two it was. What is compiled is kept between runs (`python -m neverslower cache`).
`--backend tvm:cuda` does the same on an NVIDIA GPU, on words of its own (see choice.py and cuda.py).
`--backend tvm:opencl,mali` shows what TVM would dispatch to a GPU that is not here (see opencl.py), and
`--backend tvm:rpc=HOST:PORT,key=KEY` measures on a board that a tracker of TVM's hands out (see rpc.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from backends.base import BackendOptions, Capabilities, Offsets, Tensor
from backends.base import Prepared as AnyPrepared
from backends.gpu import Gpu, load_torch, require_gpu, unusable_is_unavailable
from backends.shared import cpu_fingerprint, read_argument
from backends.tvm import cuda, databases, health, nvrtc, script
from backends.tvm.api import MAIN, Api
from backends.tvm.choice import OnCuda, Tracker, TvmOptions
from backends.tvm.compiled import Compiled, Prepared
from backends.tvm.opencl import OpenCL
from backends.tvm.rpc import BoardApi
from backends.tvm.search import METHOD, search
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import limits
from neverslower.errors import KeptFolderError, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Cache, Evidence, Plan, Searched
from neverslower.files.kept import KeptFolders, default_root
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Search, Subject, TunedLog

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16}),
    layouts=frozenset(Layout),
    evidence=frozenset({Evidence.DEVICE_TIME, Evidence.DISPATCH}),
    modules=("tvm",),
    packages=("apache-tvm", f"apache-tvm-ffi=={health.NEWEST_FFI}"),
    compiles=True,
    waits=True,
    # Untuned loops take a hundred times as long as a library's kernel: the default is a few small layers.
    quick_layers=("resnet50.L1", "mobilenet_v2.L7", "mobilenet_v2.L14", "mobilenet_v2.L41"),
    tuned_layers=("resnet50.L16",),
    largest_drawn_macs=2_000_000,
)
TOGETHER = 16
"""Fewer kernels than this are compiled for a GPU by the process that waits for them, and no other one is started."""
A_CORE = 2
"""How many kernels a core compiles at most before the process answers."""
ON_CUDA = replace(
    CAPABILITIES,
    evidence=frozenset({Evidence.DEVICE_TIME}),
    watches=True,
    waits=False,
    ahead=True,
    compiles_worth=3,  # NVRTC takes longer than what a CPU needs.
)
KERNEL, PLAN = "kernel.so", "plan.json"
RECIPE = "1"
"""Counts the ways in which this adapter has put a problem to TVM; part of the key of kept kernels and logs."""
FAILED = 1e10
"""The seconds that MetaSchedule records for a candidate that could not be built or run."""


def companions(package: str, version: str) -> tuple[str, ...]:
    """Return the requirement of the ffi that a release of tvm is known to work with, where one is known."""
    ffi = health.PAIRS.get(".".join(version.split(".")[:2])) if package == "apache-tvm" else None
    return (f"apache-tvm-ffi=={ffi}",) if ffi else ()


def capabilities_of(argument: str) -> Capabilities:
    """Return what can be asked for on the device that the argument names."""
    try:
        return ON_CUDA if TvmOptions.parse(argument).cuda else CAPABILITIES
    except ValueError:  # It is refused when it is opened.
        return CAPABILITIES


def open(options: BackendOptions) -> TVM | OpenCL:
    """Load tvm. Raises Unavailable where it, its ffi or a compiler is missing, or the argument or database is unfit."""
    choice = read_argument("tvm", options.argument, TvmOptions.parse)
    installed = health.installed()
    if not choice.gpu:
        health.require_compiler()
    kept = KeptFolders(default_root() / "tvm")
    try:
        if choice.cuda:
            return _on_cuda(choice.cuda, installed, kept, options.threads)
        health.check(installed, kept)
        if choice.tracker:
            return Board(BoardApi(options.threads, choice.tracker), installed, kept, choice.tracker, options.threads)
        api = Api(options.threads)
        if choice.gpu:
            return OpenCL(api, installed, choice.gpu, CAPABILITIES)
        database = databases.read(Path(choice.database), api) if choice.database else None
        return TVM(api, installed, kept, database, options.threads)
    except KeptFolderError as error:
        raise Unavailable(str(error)) from error


def _on_cuda(choice: OnCuda, installed: health.Installed, kept: KeptFolders, threads: int) -> Cuda:
    """Load torch, which brings CUDA, and tvm after it. Raises Unavailable where no GPU or no compiler is there."""
    torch = load_torch()
    require_gpu(torch, choice.gpu)
    compiler = nvrtc.arrange()
    health.check(installed, kept)
    with unusable_is_unavailable():
        gpu = Gpu(torch, choice.gpu)
    arch = f"sm_{gpu.properties.major}{gpu.properties.minor}"
    api = cuda.CudaApi(threads, choice.gpu, arch, gpu.lock_name)
    api.require_device()
    api.follow(gpu.stream.cuda_stream)
    database = databases.read(Path(choice.database), api) if choice.database else None
    return Cuda(api, installed, kept, database, threads, cuda.Setup(gpu, choice.cache, compiler))


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return a line that times the untuned convolution alone, or prints its OpenCL, or writes what does so on a GPU."""
    return script.line(problem, plan, read_argument("tvm", options.argument, TvmOptions.parse), options)


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return the same program as a script; it takes the untuned convolution, whatever the plan."""
    CAPABILITIES.require(problem)
    return script.text(problem, read_argument("tvm", options.argument, TvmOptions.parse), options.threads)


class TVM:
    """The backend: one tvm, the database that it was given if any, and the folders kept from earlier runs."""

    clock = "time.perf_counter"
    shortest_round = 1e-3

    def __init__(
        self,
        api: Api,
        installed: health.Installed,
        kept: KeptFolders,
        database: databases.Database | None,
        threads: int,
    ) -> None:
        self.api, self._installed, self._kept, self._threads = api, installed, kept, threads
        self._database = database
        self._of_search: dict[Search, databases.Database] = {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of the database."""
        return self._database.remarks if self._database else ()

    def fingerprint(self) -> Fingerprint:
        """Return the processor, its governor, threads and database; tvm, its ffi, which build of them, and LLVM."""
        return cpu_fingerprint(
            "tvm",
            version=self.api.version,
            build=f"ffi-{self._installed.ffi}",
            state={"threads": str(self._threads), "schedules": self._database.hash if self._database else "untuned"},
            software={
                "apache-tvm": self.api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "llvm": self.api.llvm,
                # LLVM's name of the CPU: another release may call the same one otherwise.
                "llvm cpu": self.api.cpu,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Search for a schedule, unless the same search was made before. Raises Unsupported."""
        begin = time.perf_counter()
        before = self._kept.find(self._search_fields(wanted))
        CAPABILITIES.require(wanted.problem)
        folder = before or self._kept.add(self._search_fields(wanted), lambda new: self._search(wanted, new))
        database, times = self._outcome(wanted, folder)
        seconds = time.perf_counter() - begin
        return Searched(
            database.hash, self.api.named(self.api.target), len(times), min(times), seconds, before is not None
        )

    def _search(self, wanted: Search, folder: Path) -> None:
        """Search into a folder. Raises Unsupported where nothing was found, so that a passing failure is not kept."""
        failed = search(self.api, wanted, folder)
        try:
            self._outcome(wanted, folder)
        except Unsupported as error:
            raise Unsupported(f"{error}{f': {failed[0]}' if failed else ''}") from error

    def _outcome(self, wanted: Search, folder: Path) -> tuple[databases.Database, list[float]]:
        """Return the database of a search and each candidate's best time in seconds. Raises Unsupported if none ran."""
        database = databases.read(folder, self.api)
        records = database.records.get_all_tuning_records() if database.records is not None else []
        times = [float(min(record.run_secs, default=FAILED)) for record in records]
        if min(times, default=FAILED) >= FAILED:
            raise Unsupported(f"the search {wanted} found no schedule that runs ({len(times)} candidates)")
        return database, times

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects that are yet to be compiled."""
        return [subject for subject in subjects if not self._compiled(subject)]

    def _compiled(self, subject: Subject) -> Path | None:
        try:
            return self._kept.find(self._kernel_fields(subject))
        except Unsupported:  # Its search has not been made.
            return None

    def compile(self, subject: Subject) -> Path:
        """Return the folder of the compiled subject, kept or made now. Raises Unsupported with TVM's words."""
        CAPABILITIES.require(subject.problem)
        fields = self._kernel_fields(subject)
        if folder := self._kept.find(fields):
            return folder
        return self._kept.add(fields, lambda new: self._build(subject, new))

    def _build(self, subject: Subject, folder: Path) -> None:
        compiled, about = self._built(subject)
        # Writing and linking may fail for want of room, which says nothing about the problem.
        self.api.export(compiled, folder / KERNEL)
        (folder / PLAN).write_text(json.dumps(about), encoding="utf-8")

    def _built(self, subject: Subject) -> tuple[Any, dict[str, Any]]:
        """Return a compiled subject, and what a plan tells of it. Raises Unsupported with TVM's words."""
        log = TunedLog.parse(subject.policy)
        problem = log.search.problem if log and log.padded else subject.problem
        database = self._database_of(log)
        try:
            lowered = self.api.lowered(problem, database.records if database else None)
            return self.api.built(lowered)
        except Unsupported:
            raise
        except Exception as error:
            raise Unsupported(f"tvm does not compile it: {self.api.words(error)}") from error

    def _database_of(self, log: TunedLog | None) -> databases.Database | None:
        if log is None:
            return self._database
        if log.search not in self._of_search:
            folder = self._kept.find(self._search_fields(log.search))
            if folder is None:
                raise Unsupported(f"the search {log.search} has not been made")
            self._of_search[log.search] = databases.read(folder, self.api)
        return self._of_search[log.search]

    def _search_fields(self, wanted: Search) -> dict[str, str]:
        return self._versions("search") | {"search": str(wanted), "method": METHOD}

    def _kernel_fields(self, subject: Subject) -> dict[str, str]:
        """Return the key of a kernel. Raises Unsupported where the search that schedules it has not been made."""
        database = self._database_of(TunedLog.parse(subject.policy))
        # By the content of the database and not by the search's name: a search made again gives other schedules.
        schedule = f"database {database.hash}" if database and database.records is not None else "untuned"
        return self._versions("kernel") | {"subject": subject.key, "schedule": schedule}

    def _versions(self, kind: str) -> dict[str, str]:
        """Return what all that is kept depends on; other environments of this user keep theirs in the same folder."""
        tvm = {"tvm": self.api.version, "ffi": self._installed.ffi, "build": self._installed.build}
        return {"kind": kind, "target": str(self.api.target), "recipe": RECIPE} | tvm

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> AnyPrepared:
        """Compile or find the kernel, load it and give it tensors; a padded subject gets its zero filters here."""
        subject = Subject(problem, policy)
        log = TunedLog.parse(policy)
        shape = log.search.problem if log and log.padded else problem
        folder = self.compile(subject)
        about = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        code = hashlib.sha256((folder / KERNEL).read_bytes()).hexdigest()[:16]
        plan = replace(self._plan(about, log), code=code)
        tensors = numerics.padded_tensors(shape, problem, (inputs, weights))
        try:
            return self._loaded(Compiled(folder / KERNEL, plan, problem, shape, about), *tensors)
        except MemoryError as error:
            raise OutOfMemory(f"{problem.bytes / 1e6:.0f} MB of tensors do not fit") from error

    def _loaded(self, work: Compiled, inputs: Tensor, weights: Tensor) -> AnyPrepared:
        """Load a compiled subject and give it tensors."""
        machine = self.api.load(work.path)
        machine.set_input(MAIN, *(self.api.tensor(tensor, work.shape) for tensor in (inputs, weights)))
        return self._prepared(machine, work.problem.layout, work.kept_channels, work.plan)

    def _prepared(self, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> Prepared:
        return Prepared(machine, layout, kept, plan, time.perf_counter)

    def _plan(self, functions: Mapping[str, bool], log: TunedLog | None) -> Plan:
        """Return a plan that is `untuned`, or `tuned` by the database of that hash.

        Its steps name each function and, if scheduled, its record's database and target.
        """
        database = self._database_of(log)
        tuned = all(functions.values())  # One loop that fell back to untuned can dominate the others.
        name = f"tuned {database.hash}" if tuned and database else "untuned"
        if log and log.padded:
            name = f"{name}, padded"
        origin = f" from {database.hash}, {self.api.target}" if database else ""
        steps = (
            f"{function} {f'tuned{origin}' if scheduled else 'untuned'}" for function, scheduled in functions.items()
        )
        return Plan(name, tuple(steps), tuned=tuned)


class Board(TVM):
    """The backend on a board that is reached by RPC: kernels are compiled here, and run and timed there."""

    api: BoardApi
    clock = "TVM's timer on the board"
    elsewhere = True
    offers = ()
    """A board serves one session at a time: no other process may open it, not even to compile."""

    def __init__(
        self, api: BoardApi, installed: health.Installed, kept: KeptFolders, tracker: Tracker, threads: int
    ) -> None:
        super().__init__(api, installed, kept, None, threads)
        self._tracker = tracker
        self.lock_name = f"rpc {tracker} {tracker.key}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what is not known of the board."""
        return (f"{self._tracker.board} is timed by TVM's timer there; its clocks, heat and load are not read",)

    def fingerprint(self) -> Fingerprint:
        """Return the board's key and processor, and the versions here, which are checked to be those of the board."""
        api = self.api
        return Fingerprint(
            backend="tvm",
            device=f"{self._tracker.key} {api.cpu} rpc",
            version=api.version,
            build=f"ffi-{self._installed.ffi}",
            hardware={"key": self._tracker.key, "llvm cpu": api.cpu, "triple": api.triple},
            state={"threads": str(self._threads), "schedules": "untuned"},
            software={
                "apache-tvm": api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "llvm": api.llvm,
                "ffi on the board": api.ffi,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Raise Unsupported: a search here would time candidates on this machine."""
        raise Unsupported("no schedules are searched for on a board")

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> AnyPrepared:
        """Do what TVM.prepare does, on the board. Raises DeviceLost where it no longer answers."""
        self.compile(Subject(problem, policy))  # Here and now: whatever fails after this is the board's.
        with self.api.answering():
            return super().prepare(problem, inputs, weights, policy, added)

    def _prepared(self, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> Prepared:
        return OnBoard(self.api, machine, layout, kept, plan)


class OnBoard(Prepared):
    """One compiled convolution with its tensors on a board. Raises DeviceLost where that no longer answers."""

    def __init__(self, api: BoardApi, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> None:
        super().__init__(machine, layout, kept, plan, time.perf_counter)
        self._api = api

    def output(self) -> Tensor:
        """Return one call's result, as Prepared does."""
        with self._api.answering():
            return super().output()

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the board's timer: nothing of the connection is in them."""
        with self._api.answering():
            return self._api.seconds(self._machine, iterations)


class Cuda(TVM):
    """The backend on an NVIDIA GPU: kernels are called in CUDA graphs there, and timed by its clock."""

    api: cuda.CudaApi
    clock = Gpu.clock
    shortest_round = Gpu.shortest_round
    offers = ON_CUDA.offers

    def __init__(
        self,
        api: cuda.CudaApi,
        installed: health.Installed,
        kept: KeptFolders,
        database: databases.Database | None,
        threads: int,
        setup: cuda.Setup,
    ) -> None:
        super().__init__(api, installed, kept, database, threads)
        self._setup, self._gpu = setup, setup.gpu
        self.lock_name = self._gpu.lock_name
        self.disturbed, self.state = self._gpu.disturbed, self._gpu.state
        self._waiting: list[Subject] = []

    @property
    def offsets(self) -> Offsets:
        """Return from where it is drawn where tensors begin."""
        return self._gpu.offsets

    @offsets.setter
    def offsets(self, offsets: Offsets) -> None:
        self._gpu.offsets = offsets

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of the database, and who else uses the GPU."""
        return (*super().remarks, *self._gpu.disturbances)

    def fingerprint(self) -> Fingerprint:
        """Return the GPU, its state and how it is measured; tvm, its ffi, what compiles kernels, and what is around."""
        return self._gpu.fingerprint_of(
            "tvm",
            version=self.api.version,
            build=f"ffi-{self._installed.ffi}",
            state={
                "schedules": self._database.hash if self._database else "untuned",
                "cache": self._setup.cache,
                "target": self.api.arch,
            },
            software={
                "apache-tvm": self.api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "kernel compiler": self._setup.compiler,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Search as TVM.tune does, on the GPU. Raises DeviceLost where a candidate left it in an error."""
        with self._gpu.errors_translated(wanted.problem.bytes):
            try:
                found = super().tune(wanted)
            except Unsupported as error:
                self._gpu.require_device(error)
                raise
            self._gpu.require_device()  # Else the next search would be blamed for a candidate of this one.
            return found

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects that are yet to be compiled, if there are many; of a few the first takes all along."""
        waiting = super().missing(subjects)
        if len(waiting) >= TOGETHER:
            return waiting
        self._waiting = waiting
        return []

    def compile(self, subject: Subject) -> Path:
        """Do what TVM.compile does; NVRTC compiles side by side what is known to be missing, some for each core."""
        if subject in self._waiting and not self._compiled(subject):
            ordered = [subject, *(each for each in self._waiting if each != subject)]
            many = A_CORE * limits.cores()  # All at once could take longer on few cores than an answer may.
            batch, self._waiting = ordered[:many], ordered[many:]
            with self.api.together([partial(self._built, each) for each in batch]):
                for each in batch:
                    with suppress(Unsupported):  # It is refused again when it is asked for.
                        super().compile(each)
        return super().compile(subject)

    def _versions(self, kind: str) -> dict[str, str]:
        return super()._versions(kind) | {"kernel compiler": self._setup.compiler}

    def _search_fields(self, wanted: Search) -> dict[str, str]:
        # The target is an architecture, which GPUs of several models have; a log is of the one that timed it.
        return super()._search_fields(wanted) | {"gpu": self._gpu.properties.name}

    def _plan(self, about: Mapping[str, Any], log: TunedLog | None) -> Plan:
        database = self._database_of(log)
        name, padded = database.hash if database else "", bool(log and log.padded)
        return cuda.plan_of(about, name, self.api.arch, padded)

    def _loaded(self, work: Compiled, inputs: Tensor, weights: Tensor) -> AnyPrepared:
        gpu, cache = self._gpu, self._setup.cache
        with gpu.errors_translated(work.shape.bytes):
            function = self.api.load(work.path)[work.about["function"]]
            copies = gpu.copies(work.shape, cache)
            sets = [cuda.placed(gpu, work.shape, inputs, weights) for _ in range(copies)]
            return cuda.Prepared(gpu, function, sets, work, Cache(cache, gpu.share(work.shape, copies)))
