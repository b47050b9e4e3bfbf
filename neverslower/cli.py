"""The commands that need no pytest: list layers and backends, explain a descriptor, look at a device, draw a baseline.

Each command is a pair of functions: `_add_NAME` describes it to the parser, `_NAME` runs it. What only one backend can
do is a command that its adapter offers (`backends.base.Command`), so no backend is named here.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from backends.base import BackendOptions, Command
from backends.identity import PLACE as HASHES
from neverslower import (
    cli_advise,
    cli_bisect,
    cli_explain,
    cli_grid,
    cli_headline,
    cli_maps,
    cli_mend,
    cli_pairs,
    cli_report,
    cli_upgrade,
    cli_vendor,
    cli_widths,
)
from neverslower.baseline import folders
from neverslower.baseline.diff import compare, worse
from neverslower.baseline.history import trends
from neverslower.calibration import figures, recording, stored
from neverslower.calibration.doctor import examine
from neverslower.calibration.figures import CalibrationOptions
from neverslower.calibration.measuring import LAYERS, Calibrator
from neverslower.calibration.recording import Recording, Scheme
from neverslower.cli_shared import StepsOnStderr, require_installed, step_on_stderr, what_is_missing
from neverslower.counted import counted
from neverslower.errors import NeverSlowerError, Unsupported, WorkerFailure
from neverslower.files import writing
from neverslower.files.journal import Journal, new_journal
from neverslower.files.kept import KeptFolders, default_root, others
from neverslower.judge.sequential import PRESETS, STANDARD_PRESET
from neverslower.models import reading
from neverslower.option_table import OPTIONS
from neverslower.option_values import MOST, duration
from neverslower.options import usual_selection
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.networks import NETWORKS, network
from neverslower.releases.asking import kept_releases
from neverslower.report import calibration as report_calibration
from neverslower.report import compared, words
from neverslower.report import doctor as report_doctor
from neverslower.report import history as report_history
from neverslower.report import kept as report_kept
from neverslower.report import layers as report_layers
from neverslower.report import problem as report_problem
from neverslower.report.reproduction import software
from neverslower.run_plan import backends_that
from neverslower.worker.process import LOCAL, Worker, WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
_PROGRAM = "never-slower"
INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell's."""
_OF_MODELS = ("model", "onnx", "input", "problems")  # Options of pytest that name the user's own models.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if it did what was asked, 1 if it found what it looked for, 2 for a user's mistake.

    After Ctrl-C it is 130, as a shell's, unless the command can be continued: then 2, with the way to do that.

    A mistake is written to stderr in one line.
    """
    words.write_in_any_encoding()
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except NeverSlowerError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # What can be continued has said how.
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM if Path(sys.argv[0]).name == _PROGRAM else "python -m neverslower",
        description="Is a pruned convolution layer ever slower than the unpruned one? `pytest` measures; these "
        "commands show what there is to measure, and what was measured.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_layers,
        _add_problem,
        _add_doctor,
        _add_calibrate,
        _add_backends,
        _add_compare,
        _add_history,
        cli_upgrade.add,
        _add_cache,
        _add_offered,
        cli_maps.add,
        cli_grid.add,
        cli_headline.add,
        cli_advise.add,
        cli_widths.add,
        cli_pairs.add,
        cli_mend.add,
        cli_bisect.add,
        cli_explain.add,
        cli_vendor.add,
        cli_report.add,
        _add_script,
    ):
        add(commands)
    return parser


# Layers and problems


def _add_layers(commands: Commands) -> None:
    parser = commands.add_parser("layers", help="list the distinct layers of networks, or of your own model")
    parser.add_argument("network", nargs="*", metavar="NETWORK", help=f"default: all of {', '.join(NETWORKS)}")
    for option in (option for option in OPTIONS if option.key in _OF_MODELS):
        parser.add_argument(option.flag, help=f"as pytest's {option.flag}", **option.keywords)
    parser.set_defaults(run=_layers)


def _layers(options: argparse.Namespace) -> None:
    models = reading.models(vars(options))
    lists = [report_layers.lines(network(name)) for name in options.network or ([] if models else NETWORKS)]
    lists += map(report_layers.model_lines, models)
    print("\n".join(line for lines in lists for line in lines))


def _add_problem(commands: Commands) -> None:
    parser = commands.add_parser("problem", help="explain a descriptor: shape, work, and what it can be pruned to")
    parser.add_argument("descriptor", metavar="DESCRIPTOR", help="such as mb1_ic128oc128_ih28kh3ph1")
    parser.set_defaults(run=_problem)


def _problem(options: argparse.Namespace) -> None:
    print("\n".join(report_problem.lines(parse_descriptor(options.descriptor))))


# Devices


def _add_doctor(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what can be measured here: backends, the state of their devices, the baselines that fit",
        description="Looks at each backend, and says what has to be done. Exit code 0 where something can be measured "
        "soundly, 1 where nothing can. Nothing is timed, nothing is changed.",
    )
    parser.add_argument("backend", nargs="*", metavar="BACKEND", help="as pytest's --backend; default: each")
    parser.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    _add_baselines(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    wanted = options.backend or [name for name in backends.TABLE if name != backends.FOR_TESTING]
    specs = []
    for text in wanted:
        name, _, argument = text.partition(":")
        backends.load(name)  # Refuse an unknown name before anything starts.
        specs.append(WorkerSpec(name, argument, options.worker))
    # The worker itself reports what another Python lacks.
    missing = what_is_missing if options.worker == LOCAL else lambda _: ""
    checkups = examine(specs, missing, options.baselines)
    print("\n".join(report_doctor.lines(checkups)))
    return 0 if any(checkup.sound for checkup in checkups) else 1


def _add_backends(commands: Commands) -> None:
    parser = commands.add_parser("backends", help="list the backends, with their versions or why they are missing")
    parser.set_defaults(run=_backends)


def _backends(options: argparse.Namespace) -> None:
    for name in backends.TABLE:
        print(f"{name:10} {_availability(name)}", flush=True)


def _availability(name: str) -> str:
    if why := what_is_missing(name):
        return why
    try:
        with Worker(WorkerSpec(name)) as worker:
            return f"{software(worker.fingerprint)} on {worker.fingerprint.device}"
    except WorkerFailure as error:
        return f"unavailable: {error}"


# Calibrating


def _add_calibrate(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="how small a slowdown this device can show: layers against themselves, stored next to its baselines",
        description="Measures layers against themselves on this device, and reports how often one comes out slower "
        "than itself, the noise floor, how much processes differ, the smallest slowdown that can be proved, drift, and "
        "what to fix. The result replaces the device's calibration.json.",
    )
    parser.add_argument("backend", metavar="BACKEND", help="as pytest's --backend, NAME or NAME:ARGUMENT")
    parser.add_argument(
        "--layer", action="append", default=[], metavar="PATTERN", help="measure these layers (repeatable); "
        f"default: {LAYERS} of those that a run measures, from the shortest to the longest",
    )  # fmt: skip
    parser.add_argument("--time-budget", default="5m", metavar="TIME", help="measure for this long; default 5m")
    parser.add_argument(
        "--preset", choices=list(PRESETS), default=STANDARD_PRESET.name, help="the preset whose budget and judge apply"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    parser.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help="default: the suite's")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="raw samples; default: in .neverslower")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="continue this journal, for the same time again")
    parser.add_argument(
        "--unsound", choices=["refuse", "warn"], default="refuse", help="what to do on an unsound device; see pytest -h"
    )
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    spec = _spec_to_calibrate(options)
    preset, budget = PRESETS[options.preset], duration("--time-budget", options.time_budget)
    recorded = _recorded(options, Scheme(spec.backend, spec.argument, spec.threads, preset.blocks_at_once, {}))
    usual = usual_selection(spec.backend)
    formats = backends.load(spec.backend).CAPABILITIES.formats[:1]
    layers = (replace(usual, layers=tuple(options.layer)) if options.layer else usual).distinct(formats)
    writing.require_storable(options.baselines, "calibration")
    journal = Journal(options.resume or options.journal or new_journal(BASELINES.parent, "calibration"))
    print(f"journal: {journal.path}", file=sys.stderr, flush=True)
    calibrator = Calibrator(
        spec,
        journal,
        preset.blocks_at_once,
        budget,
        refuse_unsound=options.unsound == "refuse",
        recorded=recorded,
        progress=StepsOnStderr(),
    )
    try:
        calibrator.run(layers, None if options.layer else LAYERS)
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; go on with the same command and --resume {journal.path}") from None
    finally:
        journal.close()
    comparisons = len(usual.comparisons(spec.backend, formats))
    asked = CalibrationOptions(spec.argument, spec.threads, preset.name, comparisons)
    calibration = figures.calibration_of(recording.load(journal.path), asked)
    path = stored.save(options.baselines, calibration)
    print("\n".join(report_calibration.lines(calibration)))
    print(path)


def _spec_to_calibrate(options: argparse.Namespace) -> WorkerSpec:
    name, _, argument = options.backend.partition(":")
    backends.load(name)
    if options.worker == LOCAL:
        require_installed(name)
    if not 1 <= options.threads <= MOST:
        raise NeverSlowerError(f"--threads {options.threads}: from 1 to {MOST}")
    if options.resume and (options.layer or options.journal):
        raise NeverSlowerError("--resume goes on with the layers of its journal: leave out --layer and --journal")
    return WorkerSpec(name, argument, options.worker, options.threads)


def _recorded(options: argparse.Namespace, scheme: Scheme) -> Recording | None:
    """Return the recording to go on with, if any. Raises NeverSlowerError where it was measured by another scheme."""
    if options.resume is None:
        return None
    recorded = recording.load(options.resume)
    recorded.require_equal(scheme)
    return recorded


# Baselines


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two records of instructions or dispatches, problem by problem",
        description="Compares two records of instructions or dispatches (NNNN_….jsonl in baselines/). Exit code 1 "
        "where a problem takes more instructions, is dispatched differently, or is in only one record.",
    )
    parser.add_argument("before", type=Path, metavar="BEFORE.jsonl")
    parser.add_argument("after", type=Path, metavar="AFTER.jsonl")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    before, after = folders.load(options.before), folders.load(options.after)
    changes = compare(before, after)
    print("\n".join(compared.lines(before, after, changes)))
    return worse(changes)


def _add_history(commands: Commands) -> None:
    parser = commands.add_parser(
        "history", help="the stored versions of each device side by side: time or instructions, ratio, plan"
    )
    parser.add_argument("layer", nargs="?", default="*", metavar="LAYER", help="such as resnet50.L16 or 'vgg16.*'")
    _add_baselines(parser)
    parser.set_defaults(run=_history)


def _history(options: argparse.Namespace) -> None:
    matching = trends(options.baselines, options.layer)
    if not matching:
        raise NeverSlowerError(f"no baseline in {options.baselines} holds {options.layer}")
    print("\n".join(report_history.lines(matching)))


def _add_baselines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help="default: those of the suite")


# What is kept between runs


def _add_cache(commands: Commands) -> None:
    parser = commands.add_parser("cache", help="show what is kept between runs: kernels, logs, releases, builds")
    parser.add_argument("--clear", action="store_true", help="remove all of it")
    parser.set_defaults(run=_cache)


def _cache(options: argparse.Namespace) -> None:
    for name in (*backends_that("compiles"), HASHES):
        store = KeptFolders(default_root() / name)
        if options.clear:
            count, size = store.clear()
            print(f"{name}: removed {counted(count, 'entry', 'entries')}, {size / 1e6:.1f} MB, from {store.root}")
            continue
        entries = store.entries()
        kinds = Counter(entry.fields.get("kind", "unknown") for entry in entries)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
        size = sum(entry.size for entry in entries)
        print(f"{name}: {listed}; {size / 1e6:.1f} of {store.limit / 1e6:.0f} MB in {store.root}")
    releases = kept_releases()
    print("\n".join(report_kept.releases(releases, options.clear)))
    for folder, size in others({*backends_that("compiles"), HASHES, releases.root.name}):
        if options.clear:
            shutil.rmtree(folder, ignore_errors=True)
        said = f"removed {size / 1e6:.1f} MB, from" if options.clear else f"{size / 1e6:.1f} MB in"
        print(f"{folder.name}: {said} {folder}")


# What adapters offer


def _add_offered(commands: Commands) -> None:
    for command in backends.commands("BUILD"):
        parser = commands.add_parser(command.name, help=command.help)
        for argument in command.arguments:
            parser.add_argument(argument.name, **argument.keywords)
        parser.set_defaults(run=partial(_run_offered, command))


def _run_offered(command: Command, options: argparse.Namespace) -> None:
    print(command.run(vars(options), step_on_stderr), end="")


def _add_script(commands: Commands) -> None:
    parser = commands.add_parser("script", help="print a script that times one problem without never-slower")
    parser.add_argument("key", metavar="KEY", help="a problem, DESCRIPTOR-DTYPE-LAYOUT, as baselines name it")
    parser.add_argument("--backend", required=True, metavar="NAME", help="as pytest's: onednn, onednn:torch, cudnn, …")
    parser.add_argument("--plan", default="", metavar="NAME", help="the plan to time; default: its own choice")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    parser.set_defaults(run=_script)


def _script(options: argparse.Namespace) -> None:
    name, _, argument = options.backend.partition(":")
    adapter, problem = backends.load(name), ConvProblem.from_key(options.key)
    try:
        print(adapter.write_script(problem, options.plan, BackendOptions(argument, options.threads)), end="")
    except Unsupported as error:
        raise NeverSlowerError(f"no script of {problem} for {options.backend}: {error}") from None
