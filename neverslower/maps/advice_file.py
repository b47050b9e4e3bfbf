"""The file of advice, described in docs/reference/advice.md: what `advise` wrote, to be asserted again later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import AdviceError
from neverslower.files.fields import field, fingerprint_of, read_json, values, word
from neverslower.judge.verdict import Code
from neverslower.maps import pairs
from neverslower.maps.advice import BETTER, comparison_of
from neverslower.maps.grid import comparison_of as pair_against_unpruned
from neverslower.maps.grid import problem_at, unpruned_pair
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

FORMAT, SCHEMA = "never-slower advice", 3
OF_OUTPUTS, OF_A_SIDE = 1, 2
"""The schemas of advice on output channels alone, and on one side, which versions that know no later one can read."""
WIDTHS, WIDTHS_SCHEMA = "never-slower widths", 1
"""What `advise --model` writes, see docs/reference/widths.md."""
_NEWEST = {FORMAT: SCHEMA, WIDTHS: WIDTHS_SCHEMA}


@dataclass(frozen=True)
class StoredAdvice:
    """What was advised on one device: each count against the next larger one, on the backend of the fingerprint.

    Of the widths of a model it is each layer that was proved faster, against its unpruned self, and `widths` are the
    channels that each group keeps, by the modules that make them.
    """

    path: Path
    fingerprint: Fingerprint
    comparisons: tuple[Comparison, ...]
    widths: Mapping[str, int]


def load(path: Path) -> StoredAdvice:
    """Read and check a file of advice. Raises AdviceError, naming the file, what is wrong in it and the remedy."""
    content = read_json(path, "advice", "advise again", AdviceError)
    try:
        newest = _NEWEST.get(content.get("format"))
        if newest is None:
            raise ValueError("it is no advice of never-slower")
        if field(content, "schema", int) > newest:
            raise AdviceError(f"advice {path}: schema {content['schema']} is newer than {newest}; update never-slower")
        stored = field(content, "fingerprint", dict)
        backend = word(stored, "backend")
        fingerprint = fingerprint_of({backend: stored}, backend)
        layers = field(content, "layers", list)
        read = _of_a_model if content["format"] == WIDTHS else _comparisons
        comparisons = [
            replace(comparison, asks_whether_faster=True)
            for layer in layers
            for comparison in read(path, backend, layer)
        ]
        widths = _widths(content) if content["format"] == WIDTHS else {}
    except ValueError as error:
        raise AdviceError(f"advice {path}: {error}; advise again") from None
    return StoredAdvice(path, fingerprint, tuple(comparisons), widths)


def _comparisons(path: Path, backend: str, layer: Any) -> list[Comparison]:
    """Return each advised count against the next larger one. Raises ValueError for what is no such pair."""
    if not isinstance(layer, Mapping):
        raise ValueError("a layer is no object")
    problem = ConvProblem.from_key(word(layer, "problem"))
    if layer.get("side") == pairs.BOTH:
        return _of_pairs(path, backend, layer, problem)
    side = Side(layer.get("side", Side.OUT))
    named = Layer("", None, word(layer, "name"), problem, source=("--advised", str(path)))
    comparisons = []
    for row in field(layer, "advised", list):
        larger, smaller = field(row, "against", int), field(row, "channels", int)
        if not 0 < smaller < larger <= problem.channels(side):
            raise ValueError(f"{named.name}: {smaller} channels against {larger} of {problem.channels(side)}")
        comparisons.append(comparison_of(named, backend, larger, smaller, side))
    return comparisons


def _of_pairs(path: Path, backend: str, layer: Mapping[str, Any], problem: ConvProblem) -> list[Comparison]:
    """Return each advised pair against the next larger ones. Raises ValueError for what is no such pair."""
    named = Layer("", None, word(layer, "name"), problem, source=("--advised", str(path)))
    whole, comparisons = unpruned_pair(problem), []
    for row in field(layer, "advised", list):
        pair, against = (field(row, "in", int), field(row, "out", int)), field(row, "against", list)
        if not against:
            raise ValueError(f"{named.name}: {pair[0]} × {pair[1]} is against no pair")
        for other in against:
            above = field(other, "in", int), field(other, "out", int)
            known = above == whole or pairs.larger(whole, above)
            if min(pair) < 1 or not known or not pairs.larger(above, pair):
                listed = f"{pair[0]} × {pair[1]} against {above[0]} × {above[1]} of {whole[0]} × {whole[1]}"
                raise ValueError(f"{named.name}: {listed}")
            comparisons.append(pairs.comparison_of(backend, named, above, pair))
    return comparisons


def _of_a_model(path: Path, backend: str, layer: Any) -> list[Comparison]:
    """Return a layer at its advised width against its unpruned self, nothing where it was not proved faster.

    Raises ValueError for what is no such layer.
    """
    if Code(word(layer, "verdict")) not in BETTER:
        return []
    problem, pruned = (ConvProblem.from_key(word(layer, name)) for name in ("unpruned", "advised"))
    named = Layer("", None, word(layer, "name"), problem, source=("--advised", str(path)))
    pair = unpruned_pair(pruned)
    if problem_at(problem, pair) != pruned:
        raise ValueError(f"{named.name}: {pruned} is no pruned form of {problem}")
    return [pair_against_unpruned(backend, named, pair)]


def _widths(content: Mapping[str, Any]) -> dict[str, int]:
    """Return what each group of a model keeps, by the modules that make it. Raises ValueError for what is no group."""
    found = {}
    for group in field(content, "groups", list):
        for member in values(group, "members", str):
            module, _, axis = member.rpartition(".")
            if axis == Side.OUT:
                found[module] = field(group, "keep", int)
    return found
