"""The file of advice, described in docs/reference/advice.md: what `advise` wrote, to be asserted again later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import AdviceError
from neverslower.files.fields import field, fingerprint_of, read_json, word
from neverslower.maps.advice import comparison_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

FORMAT, SCHEMA = "never-slower advice", 2
OF_OUTPUTS = 1
"""The schema of advice on output channels alone, which versions that know no other can read."""


@dataclass(frozen=True)
class StoredAdvice:
    """What was advised on one device: each count against the next larger one, on the backend of the fingerprint."""

    path: Path
    fingerprint: Fingerprint
    comparisons: tuple[Comparison, ...]


def load(path: Path) -> StoredAdvice:
    """Read and check a file of advice. Raises AdviceError, naming the file, what is wrong in it and the remedy."""
    content = read_json(path, "advice", "advise again", AdviceError)
    try:
        if content.get("format") != FORMAT:
            raise ValueError("it is no advice of never-slower")
        if field(content, "schema", int) > SCHEMA:
            raise AdviceError(f"advice {path}: schema {content['schema']} is newer than {SCHEMA}; update never-slower")
        stored = field(content, "fingerprint", dict)
        backend = word(stored, "backend")
        fingerprint = fingerprint_of({backend: stored}, backend)
        layers = field(content, "layers", list)
        comparisons = [comparison for layer in layers for comparison in _comparisons(path, backend, layer)]
    except ValueError as error:
        raise AdviceError(f"advice {path}: {error}; advise again") from None
    return StoredAdvice(path, fingerprint, tuple(comparisons))


def _comparisons(path: Path, backend: str, layer: Any) -> list[Comparison]:
    """Return each advised count against the next larger one. Raises ValueError for what is no such pair."""
    if not isinstance(layer, Mapping):
        raise ValueError("a layer is no object")
    problem = ConvProblem.from_key(word(layer, "problem"))
    side = Side(layer.get("side", Side.OUT))
    named = Layer("", None, word(layer, "name"), problem, source=("--advised", str(path)))
    comparisons = []
    for row in field(layer, "advised", list):
        larger, smaller = field(row, "against", int), field(row, "channels", int)
        if not 0 < smaller < larger <= problem.channels(side):
            raise ValueError(f"{named.name}: {smaller} channels against {larger} of {problem.channels(side)}")
        comparisons.append(comparison_of(named, backend, larger, smaller, side))
    return comparisons
