"""What needs no pytest: which layers and backends there are, what a descriptor means, a picture of a baseline."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import backends
from neverslower import baseline
from neverslower.comparison import pruning_distances
from neverslower.errors import NeverSlowerError
from neverslower.layers import NETWORKS, distinct_layers, network
from neverslower.problem import Side, parse_descriptor
from neverslower.report.picture import picture
from neverslower.report.reproduction import software
from neverslower.store import Store, default_root
from neverslower.worker import BackendUnavailable, Worker, WorkerDied, WorkerError, WorkerSpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 with one line on stderr for a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
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
    available = commands.add_parser("backends", help="list the backends, with their versions or why they are missing")
    available.set_defaults(run=_backends)
    drawn = commands.add_parser("picture", help="draw a baseline's ratios, layer by layer, as an SVG file")
    drawn.add_argument("baseline", type=Path, metavar="BASELINE.json")
    drawn.add_argument("output", type=Path, metavar="OUTPUT.svg")
    drawn.set_defaults(run=_picture)
    cache = commands.add_parser("cache", help="show what is kept between runs: compiled kernels, logs of searches")
    cache.add_argument("--clear", action="store_true", help="remove all of it")
    cache.set_defaults(run=_cache)
    return parser


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


def _backends(options: argparse.Namespace) -> None:
    for name in backends.TABLE:
        print(f"{name:10} {_availability(name)}", flush=True)


def _availability(name: str) -> str:
    if missing := backends.missing_modules(name):
        return f"unavailable: {', '.join(missing)} is not installed; `{backends.remedy(name)}`"
    try:
        with Worker(WorkerSpec(name)) as worker:
            return f"{software(worker.fingerprint)} on {worker.fingerprint.device}"
    except (BackendUnavailable, WorkerDied, WorkerError) as error:
        return f"unavailable: {error}"


def _cache(options: argparse.Namespace) -> None:
    for name in _that_compile():
        store = Store(default_root() / name)
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


def _picture(options: argparse.Namespace) -> None:
    loaded = baseline.load(options.baseline)
    if options.output.suffix != ".svg":  # A slip could replace a baseline.
        raise NeverSlowerError(f"{options.output} can't be a picture: name a file that ends in .svg")
    try:
        baseline.write_whole(options.output, picture(loaded))
    except OSError as error:
        raise NeverSlowerError(f"{options.output} can't be written: {error.strerror}") from error
    print(f"{options.output}: {len(loaded.entries)} comparisons")
