"""How few timings a staircase takes, on recorded exhaustive maps: a row a curve, failures shown.

A map that timed every count stands for the device: a count that the adaptive way times gets the recorded cost. Counted
are the timings, as a share of all counts; the edges, steps between neighbours of 5 % or more, that come out at the same
place with half of their height or more; steps of 5 % that are not there; and isolated spikes of 10 % or more whose
count is found to cost as much within 5 %.

    python -m bench.adaptive
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.few_timings import estimate
from neverslower.baseline import folders
from neverslower.evidence.observation import Evidence
from neverslower.maps import map_file
from neverslower.maps.shape import STEP, Costs, spikes_of
from neverslower.maps.staircase import Staircase
from neverslower.problem.convolution import ConvProblem

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
SPIKES_SHARE, TIMED_SHARE = 0.95, 0.15
"""What is aimed at besides every edge: so many spikes, and so many timings at the median curve."""


@dataclass(frozen=True)
class Row:
    """One curve: (found, there) of edges and spikes, and steps that are not there."""

    name: str
    counts: int
    timed: int
    edges: tuple[int, int]
    spikes: tuple[int, int]
    invented: int
    worst: float

    @property
    def share(self) -> float:
        """Return the timings over all counts."""
        return self.timed / self.counts

    @property
    def failed(self) -> bool:
        """Return whether an edge or too many spikes are missing."""
        return self.edges[0] < self.edges[1] or self.spikes[0] < SPIKES_SHARE * self.spikes[1]


def row_of(name: str, staircase: Staircase) -> Row:
    """Return how the adaptive way does on a recorded curve."""
    found = estimate(staircase.counts, staircase.plans, lambda position: float(staircase.costs[position]))
    there, seen = np.diff(np.log(staircase.costs)), np.diff(np.log(found.costs))
    edges = np.abs(there) >= STEP
    exact = edges & (seen * np.sign(there) >= 0.5 * np.abs(there))
    invented = (np.abs(seen) >= STEP) & (np.abs(there) < 0.5 * STEP)
    off = np.abs(np.log(found.costs / staircase.costs))
    spikes = spikes_of(staircase.costs)
    return Row(
        name,
        counts=len(staircase.counts),
        timed=len(found.timed),
        edges=(int(exact.sum()), int(edges.sum())),
        spikes=(sum(off[place] < STEP for place in spikes), len(spikes)),
        invented=int(invented.sum()),
        worst=math.expm1(float(off.max())),
    )


def curves() -> Iterator[tuple[str, Staircase]]:
    """Yield every recorded curve of all counts, with its name: cuDNN's times, ACL's instructions."""
    for path in sorted(BASELINES.glob("cudnn@*/maps/*.json.xz")):
        device = path.parent.parent.name.partition("@")[2]
        for staircase in map_file.load(path).staircases:
            yield f"{device} {path.name.partition('.json')[0]} {staircase.name}", staircase
    for path in sorted(BASELINES.glob("acl@*/maps/*-instructions.jsonl")):
        yield f"acl {path.stem}", _of_instructions(path)


def _of_instructions(path: Path) -> Staircase:
    """Return the staircase in a record of every count's instructions."""
    entries = folders.load(path).entries.values()
    rows = sorted(((ConvProblem.from_key(one.candidate).out_channels, one) for one in entries), key=lambda row: row[0])
    costs: Costs = np.array([entry.instructions for _, entry in rows], dtype=float)
    problem = ConvProblem.from_key(rows[0][1].reference)
    plans = tuple(entry.plan for _, entry in rows)
    return Staircase(path.stem, problem, tuple(count for count, _ in rows), costs, plans, (), Evidence.INSTRUCTIONS)


def table(rows: list[Row]) -> Iterator[str]:
    """Yield a Markdown table, and what comes of all rows."""
    yield "| curve | counts | timed | edges ≥ 5 % | spikes ≥ 10 % | steps not there | farthest off | |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        edges, spikes = f"{row.edges[0]} of {row.edges[1]}", f"{row.spikes[0]} of {row.spikes[1]}"
        end = "FAILED" if row.failed else ""
        yield (
            f"| {row.name} | {row.counts} | {row.timed} ({row.share:.0%}) | {edges} | {spikes} | {row.invented} "
            f"| {row.worst:.1%} | {end} |"
        )
    yield ""
    yield from _together(rows)


def _together(rows: list[Row]) -> Iterator[str]:
    edges = sum(row.edges[0] for row in rows), sum(row.edges[1] for row in rows)
    spikes = sum(row.spikes[0] for row in rows), sum(row.spikes[1] for row in rows)
    share = statistics.median(row.share for row in rows)
    timed = sum(row.timed for row in rows) / sum(row.counts for row in rows)
    yield f"{len(rows)} curves: {share:.1%} of counts timed at the median (aim {TIMED_SHARE:.0%}), {timed:.1%} in all"
    yield f"edges: {edges[0]:,} of {edges[1]:,}; spikes: {spikes[0]:,} of {spikes[1]:,} (aim {SPIKES_SHARE:.0%})"
    yield f"{sum(row.failed for row in rows)} curves with an edge missing, or more than 5 % of the spikes"


def main() -> None:
    """Print the table."""
    print("\n".join(table([row_of(name, staircase) for name, staircase in curves()])))


if __name__ == "__main__":
    main()
