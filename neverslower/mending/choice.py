"""Choose the counts that a model is padded to: the least time among those of which every layer has a proof.

Every layer that changes must be proved no slower, and each group that is padded faster in one layer at least. What is
chosen from measured counts is measured again, and what fails there is taken back and chosen anew: of many counts that
are as fast, some look faster by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import STANDARD, Code, ReasonCode, Verdict
from neverslower.mending.widths import MULTIPLES, Padding, Widths
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.problem.pairing import By, Pair

SWEEPS = 20
"""So often every group is looked at, at most: equal times must not go round in circles."""
PROVED = (Code.FASTER, Code.SAME)
Measure = Callable[[Sequence[Comparison]], Mapping[tuple[str, str], Verdict]]
"""Measures comparisons, and returns their verdicts by the keys of both problems."""


def comparison_of(layer: Layer, backend: str, padded: ConvProblem) -> Comparison:
    """Return the comparison of a layer with itself padded, which is the candidate."""
    pair = Pair(layer, Layer(layer.network, None, layer.place, padded), By.NAME)
    return pair.compared(backend, layer.places or (layer.name,))


@dataclass
class Table:
    """What is known of padded layers: verdicts by the keys of both problems, and seconds of layers as they are by key.

    `verified` are the pairs whose verdict comes from a measurement of their own.
    """

    padding: Padding
    seconds: Mapping[str, float]
    verdicts: dict[tuple[str, str], Verdict]
    verified: set[tuple[str, str]] = field(default_factory=set)
    _scores: dict[tuple[object, ...], tuple[int, float]] = field(default_factory=dict)

    def verify(self, verdicts: Mapping[tuple[str, str], Verdict]) -> None:
        """Put verdicts of measurements of their own in place of those that led to the choice."""
        self.verdicts |= verdicts
        self.verified |= set(verdicts)
        self._scores.clear()

    @property
    def ended(self) -> int:
        """Return how many padded layers were not decided before the time budget ended."""
        ends = (ReasonCode.TIME_BUDGET, ReasonCode.BUDGET_ENDED)
        return sum(verdict.reason.code in ends for verdict in self.verdicts.values())

    def verdict(self, layer: Layer, problem: ConvProblem) -> Verdict | None:
        """Return the verdict on a padded layer, None where it was not measured."""
        return self.verdicts.get((layer.problem.key, problem.key))

    def score(self, widths: Widths) -> tuple[int, float, int]:
        """Return what lacks a proof, the seconds of all layers, and how many groups are padded; less is better."""
        scores = [self._score(layer, widths) for layer in self.padding.layers]
        lacking = sum(lacks for lacks, _ in scores) + len(self.unhelped(widths))
        return lacking, sum(seconds for _, seconds in scores), len(widths)

    def _score(self, layer: Layer, widths: Widths) -> tuple[int, float]:
        """Return (1 if a layer lacks a proof else 0, its seconds)."""
        names = self.padding.groups_of(layer)
        key = (layer.name, *(widths.get(name) for name in names))
        if key not in self._scores:
            self._scores[key] = self._computed(layer, self.padding.problem(layer, widths))
        return self._scores[key]

    def _computed(self, layer: Layer, problem: ConvProblem) -> tuple[int, float]:
        seconds = self.seconds.get(layer.problem.key, 0.0)
        if problem == layer.problem:
            return 0, seconds
        verdict = self.verdict(layer, problem)
        if verdict is None or verdict.code not in PROVED or verdict.ratio is None:
            return 1, seconds
        return 0, seconds * verdict.ratio.estimate

    def seconds_around(self, name: str, widths: Widths) -> float:
        """Return the seconds of the layers that have channels of one group."""
        around = (layer for layer in self.padding.layers if name in self.padding.groups_of(layer))
        return sum(self._score(layer, widths)[1] for layer in around)

    def unhelped(self, widths: Widths) -> list[str]:
        """Return the groups that are padded and of which no layer is proved faster."""
        helped = {
            name
            for layer in self.padding.layers
            if self._faster(layer, widths)
            for name in self.padding.groups_of(layer)
        }
        return [name for name in widths if name not in helped]

    def _faster(self, layer: Layer, widths: Widths) -> bool:
        verdict = self.verdict(layer, self.padding.problem(layer, widths))
        return verdict is not None and verdict.code is Code.FASTER

    def why_left(self, name: str) -> str:
        """Return why a group is left as it is, count by count."""
        return "; ".join(f"{count}: {self._why_not(name, count)}" for count in self.padding.choices[name])

    def _why_not(self, name: str, count: int) -> str:
        changed = list(self.padding.changed({name: count}))
        for layer, problem in changed:
            verdict = self.verdict(layer, problem)
            if verdict is None:
                return f"{layer.place} was not measured with this group alone"
            if verdict.code not in PROVED:
                return f"{layer.place} is {verdict.code} ({verdict.ratio or verdict.reason.text})"
        if not any(self._faster(layer, {name: count}) for layer, _ in changed):
            return "no layer is proved faster"
        return "faster alone, and not together with what is padded"


def choose(table: Table) -> dict[str, int]:
    """Return the widths of the least time among those that lack no proof; none where that is the model as it is.

    It goes from several beginnings to the nearest widths that no change of a single group betters by more than the
    tolerance.
    """
    starts: list[Widths] = [{}, *(table.padding.rounded(size) for size in MULTIPLES)]
    best = min((_settled(table, dict(start)) for start in starts), key=table.score)
    return best if table.score(best)[0] == 0 else {}


def _settled(table: Table, widths: dict[str, int]) -> dict[str, int]:
    """Return the widths that are reached by giving one group after another its best count, until none changes."""
    for _ in range(SWEEPS):
        before = widths
        for name in table.padding.choices:
            widths = _with_best_count(table, widths, name)
        if widths == before:
            break
    return widths


def _with_best_count(table: Table, widths: Mapping[str, int], name: str) -> dict[str, int]:
    """Return the widths with the fewest channels of one group of those that are equally fast, up to the tolerance."""
    others = {other: width for other, width in widths.items() if other != name}
    counts = [others, *({**others, name: count} for count in table.padding.choices[name])]
    scores = [table.score(one)[0] for one in counts]
    proven = [one for one, lacking in zip(counts, scores, strict=True) if lacking == min(scores)]
    seconds = [table.seconds_around(name, one) for one in proven]
    most = min(seconds) * (1 + STANDARD.tolerance)
    return next(one for one, taken in zip(proven, seconds, strict=True) if taken <= most)


def proved(table: Table, backend: str, measure: Measure) -> dict[str, int]:
    """Return the widths that are chosen once each layer that they change was measured again. Raises NeverSlowerError.

    All that one choice needs is measured in one campaign, which controls the error over all of it.
    """
    while True:
        widths = choose(table)
        asked = [comparison_of(layer, backend, problem) for layer, problem in table.padding.changed(widths)]
        asked = [comparison for comparison in asked if comparison.identity[1:] not in table.verified]
        if not asked:
            return widths
        verdicts = measure(asked)
        missing = [comparison for comparison in asked if comparison.identity[1:] not in verdicts]
        if missing:
            without = f"{len(missing)} of {counted(len(asked), 'comparison')}"
            raise NeverSlowerError(f"without a verdict: {without}, such as {missing[0].id}")
        table.verify(verdicts)
