"""Say what came of measuring a grid: how many pairs, at which steps, and what hindered the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neverslower.counted import counted
from neverslower.maps.mapping import Mapped
from neverslower.report.mapped import device_lines


def grid_lines(path: Path, mapped: Mapped, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that a user reads after measuring; the step of an axis is its smallest count."""
    yield (
        f"{path}: {document['measured']:,} of {counted(document['asked'], 'pair')} of (input, output) channels of "
        f"{counted(len(mapped.layers), 'layer')} in {mapped.seconds:.0f} s; estimates by one process, no verdicts"
    )
    for layer in document["layers"]:
        inputs, outputs = layer["steps"]
        if layer["pairs"]:
            yield f"  {layer['name']}: {counted(len(layer['pairs']), 'pair')}, steps {inputs} × {outputs}"
    for name, why in mapped.unmeasured().items():
        yield f"{name}: nothing of it was measured: {why}"
    yield from device_lines(mapped.backend, mapped.findings)
