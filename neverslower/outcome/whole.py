"""What is said of a pruned network as a whole, and which of its layers explain the difference to its original."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neverslower.campaign.findings import Identity, Result
from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import Verdict
from neverslower.outcome.table import Finding
from neverslower.problem.comparison import Comparison
from neverslower.problem.pairing import Pairing
from neverslower.problem.whole import WholeComparison

Times = tuple[float, float]
"""Seconds of a call: (original, pruned)."""


@dataclass(frozen=True)
class Part:
    """What one layer adds to the time of the pruned network, in seconds: less than 0 where pruning it saves time."""

    place: str
    seconds: float


@dataclass(frozen=True)
class Explained:
    """Two networks' times in seconds, and what their layers add up to, each of which was timed by itself.

    `parts` begin with those that go furthest in the direction of the difference. `untimed` are the places of layers
    that differ and have no times, so that their share is not known.
    """

    original: float
    pruned: float
    parts: tuple[Part, ...] = ()
    untimed: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Return how much longer the pruned network takes, in seconds."""
        return self.pruned - self.original

    @property
    def of_layers(self) -> float:
        """Return how much longer its layers take together, in seconds."""
        return sum(part.seconds for part in self.parts)

    @property
    def share(self) -> float | None:
        """Return the share of the difference that the layers explain; None where there is no difference."""
        return self.of_layers / self.difference if self.difference else None


@dataclass(frozen=True)
class AssessedWhole:
    """What is said about a whole network's item: the finding, its verdict, and the times behind it if there are any."""

    comparison: WholeComparison
    finding: Finding
    verdict: Verdict
    explained: Explained | None = None
    also: tuple[Finding, ...] = ()


def explained(passes: Sequence[PairedPass], layers: Mapping[str, Times | None]) -> Explained | None:
    """Return the whole's times and what each layer adds to the difference; None where the whole was not timed.

    `layers` holds the seconds at each place at which both networks differ, None where they are not known. What only one
    network has takes 0 in the other one.
    """
    times = median_times(passes)
    if times is None:
        return None
    longer = times[1] >= times[0]
    parts = [Part(place, own[1] - own[0]) for place, own in layers.items() if own]
    parts.sort(key=lambda part: -part.seconds if longer else part.seconds)
    return Explained(*times, tuple(parts), tuple(place for place, own in layers.items() if own is None))


def median_times(passes: Sequence[PairedPass]) -> Times | None:
    """Return the median seconds of a call of (reference, candidate) over all passes, None without samples."""
    if not any(len(one.seconds) for one in passes):
        return None
    reference = np.concatenate([one.reference for one in passes])
    candidate = np.concatenate([one.candidate for one in passes])
    return float(np.median(reference)), float(np.median(candidate))


def times_by_place(
    pairing: Pairing, comparisons: Iterable[Comparison], whole: WholeComparison, results: Mapping[Identity, Result]
) -> dict[str, Times | None]:
    """Return what a layer takes at each place at which two networks differ: (original, pruned) in seconds, or None.

    Places are named as the original names them; those that only the pruned network has, with its name before them.
    """
    found: dict[str, Times | None] = {}
    alone: dict[str, float | None] = {}
    for comparison in comparisons:
        if _is_in(comparison, whole):
            result = results.get(comparison.identity)
            times = median_times(result.passes) if result else None
            for place in comparison.layer.places:
                if comparison.against_itself:
                    alone[place] = sum(times) / 2 if times else None
                else:
                    found[place.removeprefix(f"{whole.name}.")] = times
    for layer in (left.layer for left in pairing.unpaired):
        seconds = alone.get(layer.with_batch(whole.batch).name if whole.batch else layer.name)
        gone = layer.network == pairing.original.name
        times = None if seconds is None else (seconds, 0.0) if gone else (0.0, seconds)
        found[layer.place if gone else layer.name] = times
    return found


def _is_in(comparison: Comparison, whole: WholeComparison) -> bool:
    layer, network = comparison.candidate, whole.candidate
    alike = (layer.dtype, layer.layout, comparison.layer.batch) == (network.dtype, network.layout, whole.batch)
    return alike and comparison.backend == whole.backend
