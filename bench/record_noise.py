"""Record a pool of A/A comparisons on this device: real layers against themselves, raw, for judging the judge.

    python -m bench.record_noise --comparisons 1000 bench/data/onednn-two-cores.npz

The file holds `nanoseconds` (comparisons, blocks, 2, 2), one round each as observation.PairedPass orders them, the
`iterations` in a round (comparisons, 2), the `layers`, their `problems`, the `processes`, and the `fingerprint` as
JSON. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.problem.convolution import DType, Layout
from neverslower.problem.networks import Layer, distinct_layers, network
from neverslower.worker.process import Worker, WorkerSpec


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--backend", default="onednn")
    parser.add_argument("--network", action="append", default=[], help="default: resnet50")
    parser.add_argument("--format", action="append", default=[], metavar="DTYPE-LAYOUT", help="default: float32-NCHW")
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--processes", type=int, default=10)
    return parser.parse_args()


def _layers(options: argparse.Namespace) -> list[Layer]:
    """Return the distinct layers of the networks that were named, in each format."""
    places = [place for name in options.network or ["resnet50"] for place in network(name)]
    formats = [text.split("-") for text in options.format or ["float32-NCHW"]]
    return [
        layer.with_format(DType(dtype), Layout(layout))
        for dtype, layout in formats
        for layer in distinct_layers(places)
    ]


def record(options: argparse.Namespace, layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the pool's arrays, by the names that the file gives them; each process measures its share."""
    order = np.random.default_rng(0).permutation(options.comparisons) % len(layers)
    nanoseconds = np.empty((options.comparisons, options.blocks, 2, 2), dtype=np.int32)
    iterations = np.empty((options.comparisons, 2), dtype=np.int32)
    processes = np.arange(options.comparisons) * options.processes // options.comparisons
    fingerprint = None
    for process in range(options.processes):
        with Worker(WorkerSpec(options.backend), process) as worker:
            fingerprint = worker.fingerprint
            for number in np.flatnonzero(processes == process):
                key = layers[order[number]].problem.key
                paired = worker.measure(key, key, options.blocks, afresh=True)
                iterations[number] = paired.iterations
                per_round = paired.seconds * np.asarray(paired.iterations)[None, :, None]
                nanoseconds[number] = np.rint(per_round * 1e9)
        print(f"{process + 1}/{options.processes} processes", flush=True)
    assert fingerprint is not None
    return {
        "nanoseconds": nanoseconds,
        "iterations": iterations,
        "layers": np.array([layers[index].name for index in order]),
        "problems": np.array([layers[index].problem.key for index in order]),
        "processes": processes,
        "fingerprint": json.dumps(fingerprint.as_dict()),
    }


def main() -> None:
    """Record and write the pool."""
    options = _options()
    pool = record(options, _layers(options))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.output, **pool)


if __name__ == "__main__":
    main()
