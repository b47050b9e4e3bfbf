"""Which stored entries a run's options select, so that a run that does not measure one of them can say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from neverslower.baseline.entry import Entry
from neverslower.baseline.folders import BaselineChoice
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.problem.selection import Format, Selection


@dataclass(frozen=True)
class Scope:
    """The layers, formats, sides and channel counts that the options select on each backend."""

    selections: Mapping[str, Selection]
    formats: Mapping[str, Sequence[Format]]

    def holds(self, backend: str, entry: Entry) -> bool:
        """Return whether the options select what an entry is about: its layer, format, side and channel count.

        A pruned model has one count a layer, so what was stored of one is in the scope of what measures just that.
        """
        if entry.paired or self.selections[backend].pairing:
            return (entry.reference, entry.candidate) in self._measured[backend]
        problem, selection = ConvProblem.from_key(entry.reference), self.selections[backend]
        layer = self._layers[backend].get(entry.layer)
        if layer is None:
            return False
        counts = selection.kept(layer)
        kept = ConvProblem.from_key(entry.candidate).channels(entry.side)
        return (
            (problem.dtype, problem.layout) in self.formats[backend]
            and problem.epilogue == layer.problem.epilogue
            and entry.side in selection.sides
            and (counts is None or kept in counts)
        )

    @cached_property
    def _measured(self) -> dict[str, set[tuple[str, str]]]:
        return {
            name: {comparison.keys for comparison in chosen.comparisons(name, self.formats[name])}
            for name, chosen in self.selections.items()
        }

    @cached_property
    def _layers(self) -> dict[str, dict[str, Layer]]:
        return {name: {layer.name: layer for layer in chosen.places()} for name, chosen in self.selections.items()}


def vanished(choices: Mapping[str, BaselineChoice], scope: Scope, comparisons: Iterable[Comparison]) -> list[Entry]:
    """Return what the chosen baselines hold in scope and no comparison measures any more."""
    measured = {comparison.identity for comparison in comparisons}
    return [
        entry
        for name, choice in choices.items()
        for entry in (choice.baseline.entries.values() if choice.baseline else ())
        if (name, entry.reference, entry.candidate) not in measured and scope.holds(name, entry)
    ]
