"""What needs no pytest: which layers and backends there are, what a descriptor means, a picture of a baseline."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import backends
from neverslower.baseline import folders
from neverslower.baseline.diff import compare, worse
from neverslower.baseline.history import trends
from neverslower.calibration import figures, recording, stored
from neverslower.calibration.doctor import examine
from neverslower.calibration.figures import Options
from neverslower.calibration.measuring import LAYERS, Calibrator
from neverslower.calibration.recording import Scheme
from neverslower.errors import NeverSlowerError, WorkerFailure
from neverslower.files import writing
from neverslower.files.journal import Journal, new_journal
from neverslower.files.kept import KeptFolders, default_root
from neverslower.judge.sequential import PRESETS, STANDARD_PRESET
from neverslower.maps.mapping import MapMaker, load, probe, save
from neverslower.options import MOST, duration, usual_selection
from neverslower.outcome.rejudge import changes_of
from neverslower.problem.comparison import pruning_distances
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, parse_descriptor
from neverslower.problem.networks import NETWORKS, distinct_layers, network
from neverslower.problem.selection import Selection
from neverslower.report import calibration as report_calibration
from neverslower.report import compared
from neverslower.report import doctor as report_doctor
from neverslower.report import history as report_history
from neverslower.report import upgrade as report_upgrade
from neverslower.report.headline import headline_table
from neverslower.report.picture import picture
from neverslower.report.reproduction import software
from neverslower.report.staircase import staircase_picture
from neverslower.worker.process import LOCAL, Worker, WorkerSpec

FOR_TESTING = "scripted"
BASELINES = Path(__file__).resolve().parent.parent / "baselines"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 1 if it found what it looked for, 2 and one line for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except NeverSlowerError as error:
        print(f"neverslower: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m neverslower",
        description="Is a pruned convolution layer ever slower than the unpruned one? `pytest` measures; this tells.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    layers = commands.add_parser("layers", help="list the distinct layers of a network, and all places of each")
    layers.add_argument("network", nargs="*", metavar="NETWORK", help=f"default: all of {', '.join(NETWORKS)}")
    layers.set_defaults(run=_layers)
    problem = commands.add_parser("problem", help="explain a benchdnn descriptor: shape, work, pruned selves")
    problem.add_argument("descriptor", metavar="DESCRIPTOR", help="such as mb1_ic128oc128_ih28kh3ph1")
    problem.set_defaults(run=_problem)
    doctor = commands.add_parser(
        "doctor",
        help="what can be measured here: backends, the state of their devices, the baselines that fit",
        description="Looks at each backend, and says what has to be done. Exit code 0 where something can be measured "
        "soundly, 1 where nothing can. Nothing is timed, nothing is changed.",
    )
    doctor.add_argument("backend", nargs="*", metavar="BACKEND", help="as pytest's --backend; default: each")
    doctor.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    doctor.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help="default: those of the suite")
    doctor.set_defaults(run=_doctor)
    _add_calibrate_command(commands)
    available = commands.add_parser("backends", help="list the backends, with their versions or why they are missing")
    available.set_defaults(run=_backends)
    drawn = commands.add_parser("picture", help="draw a baseline's ratios, layer by layer, as an SVG file")
    drawn.add_argument("baseline", type=Path, metavar="BASELINE.json")
    drawn.add_argument("output", type=Path, metavar="OUTPUT.svg")
    drawn.set_defaults(run=_picture)
    records = commands.add_parser(
        "compare",
        help="compare two records of instructions or dispatches, problem by problem",
        description="Compares two records of instructions or dispatches (NNNN_….jsonl in baselines/). Exit code 1 "
        "where a problem takes more instructions, is dispatched otherwise, or is in one record alone.",
    )
    records.add_argument("before", type=Path, metavar="BEFORE.jsonl")
    records.add_argument("after", type=Path, metavar="AFTER.jsonl")
    records.set_defaults(run=_compare)
    history = commands.add_parser(
        "history", help="the stored versions of each device side by side: time or instructions, ratio, plan"
    )
    history.add_argument("layer", nargs="?", default="*", metavar="LAYER", help="such as resnet50.L16 or 'vgg16.*'")
    history.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help="default: those of the suite")
    history.set_defaults(run=_history)
    changed = commands.add_parser(
        "upgrade", help="what another library changes, from the journal of a run with --against, as a Markdown table"
    )
    changed.add_argument("journal", type=Path, metavar="JOURNAL")
    changed.add_argument("--rows", type=int, default=10, metavar="N", help="slower ones and faster ones; default 10")
    changed.set_defaults(run=_upgrade)
    cache = commands.add_parser("cache", help="show what is kept between runs: compiled kernels, logs of searches")
    cache.add_argument("--clear", action="store_true", help="remove all of it")
    cache.set_defaults(run=_cache)
    built = commands.add_parser(
        "build-acl",
        help="build the runner of the acl backend, against the system's Arm Compute Library or another one",
    )
    built.add_argument("--root", default="", metavar="FOLDER", help="of an ACL with headers; default: the system's")
    built.set_defaults(run=_build_acl)
    _add_map_commands(commands)
    script = commands.add_parser("script", help="print a script that times one problem without never-slower (cudnn)")
    script.add_argument("key", metavar="KEY", help="a problem, DESCRIPTOR-DTYPE-LAYOUT, as baselines name it")
    script.add_argument("--plan", default="", metavar="NAME", help="the plan to time; default: the library's first")
    script.set_defaults(run=_script)
    return parser


def _add_calibrate_command(commands: Any) -> None:
    calibrated = commands.add_parser(
        "calibrate",
        help="how finely this device can tell: layers against themselves, stored beside its baselines",
        description="Measures layers against themselves on this device, and tells how often one comes out slower than "
        "itself, the noise floor, how much processes differ, the smallest slowdown that can be proved, drift, and what "
        "to mend. The result replaces the device's calibration.json.",
    )
    calibrated.add_argument("backend", metavar="BACKEND", help="as pytest's --backend, NAME or NAME:ARGUMENT")
    calibrated.add_argument(
        "--layer", action="append", default=[], metavar="PATTERN", help="measure these layers (repeatable); "
        f"default: {LAYERS} of those that a run measures, from the shortest to the longest",
    )  # fmt: skip
    calibrated.add_argument("--time-budget", default="5m", metavar="TIME", help="measure that long; default 5m")
    calibrated.add_argument(
        "--preset", choices=list(PRESETS), default=STANDARD_PRESET.name, help="whose budget and judge are meant"
    )
    calibrated.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    calibrated.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    calibrated.add_argument("--baselines", type=Path, default=BASELINES, metavar="DIR", help="default: the suite's")
    calibrated.add_argument("--journal", type=Path, metavar="FILE", help="raw samples; default: in .neverslower")
    calibrated.add_argument("--resume", type=Path, metavar="FILE", help="go on with this journal, for as long again")
    calibrated.add_argument(
        "--unsound", choices=["refuse", "warn"], default="refuse", help="what to do on an unsound device; see pytest -h"
    )
    calibrated.set_defaults(run=_calibrate)


def _add_map_commands(commands: Any) -> None:
    mapped = commands.add_parser(
        "map", help="time layers at every channel count on a backend that can (cudnn), and store the map"
    )
    mapped.add_argument("output", type=Path, metavar="OUTPUT.json.xz")
    mapped.add_argument("--backend", default="cudnn", metavar="NAME", help="as pytest's; default cudnn")
    mapped.add_argument("--network", action="append", default=[], metavar="NAME", help="map all its layers")
    mapped.add_argument("--layer", action="append", default=[], metavar="NAME", help="map these layers (repeatable)")
    mapped.add_argument("--problem", action="append", default=[], metavar="DESCRIPTOR", help="map it (repeatable)")
    mapped.add_argument("--dtype", type=DType, default=None, choices=list(DType), help="default: the backend's own")
    mapped.add_argument("--layout", type=Layout, default=None, choices=list(Layout), help="default: the backend's own")
    mapped.add_argument("--rounds", type=int, default=25, metavar="N", help="rounds of each count; default 25")
    mapped.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    mapped.set_defaults(run=_map)
    staircase = commands.add_parser("staircase", help="draw a layer of a map as an SVG file, hazards by their cause")
    staircase.add_argument("map", type=Path, metavar="MAP.json.xz")
    staircase.add_argument("layer", metavar="LAYER", help="such as resnet50.L16")
    staircase.add_argument("output", type=Path, metavar="OUTPUT.svg")
    staircase.set_defaults(run=_staircase)
    headline = commands.add_parser("headline", help="the worst and the best that maps hold, network by network")
    headline.add_argument("maps", type=Path, nargs="+", metavar="MAP.json.xz")
    headline.set_defaults(run=_headline)


def _layers(options: argparse.Namespace) -> None:
    for name in options.network or NETWORKS:
        for layer in distinct_layers(network(name)):
            print(f"{layer.name:18} {layer.problem.descriptor:50} {', '.join(layer.places)}")


def _problem(options: argparse.Namespace) -> None:
    problem = parse_descriptor(options.descriptor)
    print(f"{problem}\n  input {problem.input_shape}, weights {problem.weight_shape}, output {problem.output_shape}")
    print(f"  {problem.macs:,} multiply-accumulates, {problem.bytes:,} bytes")
    for side in Side:
        counts = [str(problem.channels(side) - distance) for distance, _ in pruning_distances(problem, side)]
        print(f"  pruned {side}put channels: {', '.join(counts) or 'none'}")


def _doctor(options: argparse.Namespace) -> int:
    wanted = options.backend or [name for name in backends.TABLE if name != FOR_TESTING]
    specs = []
    for text in wanted:
        name, _, argument = text.partition(":")
        backends.load(name)  # An unknown name is told before anything starts.
        specs.append(WorkerSpec(name, argument, options.worker))
    # What another Python lacks is told by the worker there.
    missing = _what_is_missing if options.worker == LOCAL else lambda _: ""
    checkups = examine(specs, missing, options.baselines)
    print("\n".join(report_doctor.lines(checkups)))
    return 0 if any(one.sound for one in checkups) else 1


def _calibrate(options: argparse.Namespace) -> None:
    spec = _spec_to_calibrate(options)
    preset, budget = PRESETS[options.preset], duration("--time-budget", options.time_budget)
    recorded = recording.load(options.resume) if options.resume else None
    if recorded:
        recorded.require_equal(Scheme(spec.backend, spec.argument, spec.threads, preset.blocks_at_once, {}))
    usual = usual_selection(spec.backend)
    formats = backends.load(spec.backend).CAPABILITIES.formats[:1]
    chosen = replace(usual, layers=tuple(options.layer)) if options.layer else usual
    layers = chosen.distinct(formats)
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
        progress=_on_stderr,
    )
    try:
        calibrator.run(layers, None if options.layer else LAYERS)
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; go on with the same command and --resume {journal.path}") from None
    finally:
        journal.close()
    asked = Options(spec.argument, spec.threads, preset.name, len(usual.comparisons(spec.backend, formats)))
    found = figures.calibration_of(recording.load(journal.path), asked)
    path = stored.save(options.baselines, found)
    print("\n".join(report_calibration.lines(found)))
    print(path)


def _spec_to_calibrate(options: argparse.Namespace) -> WorkerSpec:
    name, _, argument = options.backend.partition(":")
    backends.load(name)
    if options.worker == LOCAL and (why := _what_is_missing(name)):
        raise NeverSlowerError(f"{name} is {why}")
    if not 1 <= options.threads <= MOST:
        raise NeverSlowerError(f"--threads {options.threads}: from 1 to {MOST}")
    if options.resume and (options.layer or options.journal):
        raise NeverSlowerError("--resume goes on with the layers of its journal: leave --layer and --journal away")
    return WorkerSpec(name, argument, options.worker, options.threads)


def _backends(options: argparse.Namespace) -> None:
    for name in backends.TABLE:
        print(f"{name:10} {_availability(name)}", flush=True)


def _availability(name: str) -> str:
    if why := _what_is_missing(name):
        return why
    try:
        with Worker(WorkerSpec(name)) as worker:
            return f"{software(worker.fingerprint)} on {worker.fingerprint.device}"
    except WorkerFailure as error:
        return f"unavailable: {error}"


def _what_is_missing(name: str) -> str:
    """Why a backend can't even be started, or nothing."""
    missing = backends.missing_modules(name)
    return f"unavailable: {', '.join(missing)} is not installed; `{backends.remedy(name)}`" if missing else ""


def _cache(options: argparse.Namespace) -> None:
    for name in _that_compile():
        store = KeptFolders(default_root() / name)
        if options.clear:
            count, size = store.clear()
            print(f"{name}: removed {count} entries, {size / 1e6:.1f} MB, from {store.root}")
            continue
        entries = store.entries()
        kinds = Counter(one.fields.get("kind", "unknown") for one in entries)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
        size = sum(one.size for one in entries)
        print(f"{name}: {listed}; {size / 1e6:.1f} of {store.limit / 1e6:.0f} MB in {store.root}")


def _that_compile() -> list[str]:
    """Backends that keep things between runs; one that is on request only, the scripted one, keeps none."""
    offered = {name: backends.load(name).CAPABILITIES for name in backends.TABLE}
    return [name for name, capabilities in offered.items() if capabilities.compiles and not capabilities.on_request]


def _script(options: argparse.Namespace) -> None:
    from backends.cudnn.script import script

    print(script(ConvProblem.from_key(options.key), options.plan), end="")


def _build_acl(options: argparse.Namespace) -> None:
    from backends.acl.build import build

    built = build(options.root, lambda step: print(step, file=sys.stderr, flush=True))
    print(built.runner)


def _map(options: argparse.Namespace) -> None:
    name, _, argument = options.backend.partition(":")
    own = backends.load(name).CAPABILITIES.formats[0]
    networks = tuple(options.network) if options.network or options.layer or options.problem else ("resnet50",)
    selection = Selection(networks=networks, layers=tuple(options.layer), problems=tuple(options.problem))
    layers = selection.distinct([(options.dtype or own[0], options.layout or own[1])])
    if not 3 <= options.rounds <= 1000:
        raise NeverSlowerError(f"--rounds {options.rounds}: from 3 to 1000")
    _require_suffix(options.output, ".json.xz", "a map")
    if why := _what_is_missing(name):
        raise NeverSlowerError(f"{name} is {why}")
    spec = WorkerSpec(name, argument, options.worker)
    probe(options.output)
    mapper = MapMaker(spec, options.rounds, progress=_on_stderr)
    document = mapper.run(layers)
    save(options.output, document)
    share = document["busy_seconds"] / max(document["wall_seconds"], 1e-9)
    took = f"{document['wall_seconds']:.0f} s, {share:.0%} of it in rounds that count"
    print(f"{options.output}: {document['points']:,} channel counts in {took}")
    for remark in document["remarks"]:
        print(f"{name}: {remark}")
    if mapper.ended_early:
        raise NeverSlowerError(
            f"ended early: {mapper.ended_early}; {options.output} holds what was measured until then"
        )


def _on_stderr(phase: str, done: int, total: int, seconds_left: float | None) -> None:
    print(f"{phase} {done:,}/{total:,}", file=sys.stderr, flush=True)


def _staircase(options: argparse.Namespace) -> None:
    loaded = load(options.map)
    text = staircase_picture(loaded.staircase(options.layer), loaded.fingerprint)
    _write_picture(options.output, text)
    print(options.output)


def _headline(options: argparse.Namespace) -> None:
    print("\n".join(headline_table(load(path) for path in options.maps)))


def _compare(options: argparse.Namespace) -> int:
    before, after = folders.load(options.before), folders.load(options.after)
    changes = compare(before, after)
    print("\n".join(compared.lines(before, after, changes)))
    return worse(changes)


def _history(options: argparse.Namespace) -> None:
    found = trends(options.baselines, options.layer)
    if not found:
        raise NeverSlowerError(f"no baseline in {options.baselines} holds {options.layer}")
    print("\n".join(report_history.lines(found)))


def _upgrade(options: argparse.Namespace) -> None:
    found = changes_of(options.journal)
    lines = [*report_upgrade.lost(found.alone), report_upgrade.counted(found.changes), ""]
    print("\n".join([*lines, *report_upgrade.table(found.changes, options.rows)]))


def _picture(options: argparse.Namespace) -> None:
    loaded = folders.load(options.baseline)
    _write_picture(options.output, picture(loaded))
    print(f"{options.output}: {len(loaded.entries)} comparisons")


def _require_suffix(path: Path, suffix: str, what: str) -> None:
    """A slip could replace a baseline."""
    if not path.name.endswith(suffix):
        raise NeverSlowerError(f"{path} can't be {what}: name a file that ends in {suffix}")


def _write_picture(path: Path, text: str) -> None:
    _require_suffix(path, ".svg", "a picture")
    try:
        writing.write_whole(path, text)
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}") from error
