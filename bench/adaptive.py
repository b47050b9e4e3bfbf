"""How few timings a staircase takes, on recorded exhaustive maps: a row a curve, failures shown.

A map that timed every count stands for the device: a count that `neverslower.maps.adaptive` asks for gets the recorded
cost. Counted are the timings, as a share of all counts, and the rounds of asking; the edges, steps of 5 % or more
between neighbours, that come out at the same place with half of their height or more; steps of 5 % that are not there;
and isolated spikes of 10 % or more whose count is found to cost as much within 5 %.

The rules were fixed on the layers with even numbers, and the others test them. At the end another map of every count,
of the same device, takes the same test: what it misses of the first one is not the same twice.

    python -m bench.adaptive
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neverslower.baseline import folders
from neverslower.evidence.observation import Evidence
from neverslower.maps import map_file
from neverslower.maps.adaptive import draw
from neverslower.maps.shape import STEP, Costs, spikes_of
from neverslower.maps.staircase import Staircase
from neverslower.problem.convolution import ConvProblem

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ROOT / "baselines"
SURVEY = BASELINES / "cudnn@nvidia-h200/maps/resnet50-float16-NHWC.json.xz"
AGAIN = ROOT / "bench/data/maps/resnet50-float16-verdicts-h200.json.xz"
"""Two maps of the same layers on the same device, by one process and by three."""
SPIKES_SHARE, TIMED_SHARE = 0.95, 0.15
"""What is aimed at besides every edge: so many spikes, and so many timings at the median curve."""


@dataclass(frozen=True)
class Row:
    """One curve: (found, there) of edges and spikes, and steps that are not there."""

    name: str
    counts: int
    timed: int
    rounds: int
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

    @property
    def fixing(self) -> bool:
        """Return whether the curve is of the half that the rules were fixed on: layers with even numbers."""
        number = re.search(r"\.L(\d+)", self.name)
        return number is not None and int(number[1]) % 2 == 0


def row_of(name: str, staircase: Staircase) -> Row:
    """Return how the adaptive way does on a recorded curve."""
    known: dict[int, float] = {}
    rounds = 0
    while missing := (drawn := draw(staircase.counts, staircase.plans, known)).missing:
        known |= {position: float(staircase.costs[position]) for position in missing}
        rounds += 1
    return scored(name, staircase.costs, drawn.costs, len(known), rounds)


def scored(name: str, costs: Costs, found: Costs, timed: int, rounds: int) -> Row:
    """Return what a curve that was `found` has of the recorded `costs`."""
    there, seen = np.diff(np.log(costs)), np.diff(np.log(found))
    edges = np.abs(there) >= STEP
    exact = edges & (seen * np.sign(there) >= 0.5 * np.abs(there))
    invented = (np.abs(seen) >= STEP) & (np.abs(there) < 0.5 * STEP)
    off = np.abs(np.log(found / costs))
    spikes = spikes_of(costs)
    return Row(
        name,
        counts=len(costs),
        timed=timed,
        rounds=rounds,
        edges=(int(exact.sum()), int(edges.sum())),
        spikes=(sum(off[place] < STEP for place in spikes), len(spikes)),
        invented=int(invented.sum()),
        worst=math.expm1(float(off.max())),
    )


def again() -> list[Row]:
    """Return how one map of every count does on another one of the same device, a row a layer."""
    others = {staircase.name: staircase for staircase in map_file.load(AGAIN).staircases}
    pairs = [(one, others[one.name]) for one in map_file.load(SURVEY).staircases]
    return [scored(one.name, one.ratios, other.ratios, len(one.counts), 1) for one, other in pairs]


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


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a Markdown table, and what comes of each half of the rows and of all."""
    yield "| curve | counts | timed | rounds | edges ≥ 5 % | spikes ≥ 10 % | steps not there | farthest off | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        edges, spikes = f"{row.edges[0]} of {row.edges[1]}", f"{row.spikes[0]} of {row.spikes[1]}"
        end = "FAILED" if row.failed else ""
        yield (
            f"| {row.name} | {row.counts} | {row.timed} ({row.share:.0%}) | {row.rounds} | {edges} | {spikes} "
            f"| {row.invented} | {row.worst:.1%} | {end} |"
        )
    yield ""
    fixing, testing = [row for row in rows if row.fixing], [row for row in rows if not row.fixing]
    for half, members in (("rules fixed on", fixing), ("tested on", testing), ("all", rows)):
        yield f"{half}: {_together(members)}"
    yield f"another map of every count, of the H200's: {_found(again())}"


def _together(rows: Sequence[Row]) -> str:
    share = statistics.median(row.share for row in rows)
    timed = sum(row.timed for row in rows) / sum(row.counts for row in rows)
    aims = f"(aims: {TIMED_SHARE:.0%} at the median, every edge, {SPIKES_SHARE:.0%} of each curve's spikes)"
    return f"{share:.1%} of counts timed at the median, {timed:.1%} in all; {_found(rows)} {aims}"


def _found(rows: Sequence[Row]) -> str:
    edges, spikes = (
        tuple(map(sum, zip(*pairs, strict=True)))
        for pairs in ([row.edges for row in rows], [row.spikes for row in rows])
    )
    failed = sum(row.failed for row in rows)
    found = f"{edges[0]:,} of {edges[1]:,} edges, {spikes[0]:,} of {spikes[1]:,} spikes"
    return f"{found}; {failed} of {len(rows)} curves fail"


def main() -> None:
    """Print the table."""
    print("\n".join(table([row_of(name, staircase) for name, staircase in curves()])))


if __name__ == "__main__":
    main()
