"""How soon a hunt meets a planted hazard: plainly at random, spread, and from an earlier example, from the same seeds.

    python -m bench.hunting

The library is invented: a call takes a fixed time and one for each tile of 16 output channels, and the planted hazard
lies on top. Nothing is timed; what counts is how many comparisons are measured until the first slower one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from enum import Enum

from hypothesis import Phase, core, settings

from neverslower.hunt.hunting import hunt
from neverslower.hunt.oracle import Oracle
from neverslower.hunt.strategies import Space
from neverslower.judge.verdict import STANDARD, Interval, Reason, ReasonCode, Verdict, decide
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.problem.predicate import holds
from neverslower.worker.process import WorkerSpec

SPACE = Space(groups=False, dilation=False, asymmetric_padding=False, largest_macs=3_000_000)
PLANTED = {
    "one shape": "out_channels == 37 and in_channels == 24",
    "a congruence class": "out_channels % 32 == 17",
    "another class": "out_channels % 32 == 20",
    "a range": "200 <= out_channels < 216",
    "an interaction of two axes": "out_channels % 16 == 9 and in_channels >= 96",
    "another interaction": "out_channels % 16 == 6 and in_channels % 32 == 0",
}
SLOWER, TILE, FIXED = 1.6, 16, 20.0
SEEDS, MOST = 12, 200


class Planted(Oracle):
    """Answers from the invented library, with one planted hazard; counts what it is asked until that is met."""

    def __init__(self, when: str) -> None:
        super().__init__(WorkerSpec("scripted"))
        self._when = when
        self.asked = self.met = 0

    def _measured(self, comparison: Comparison) -> Verdict:
        self.asked += 1
        ratio = self._cost(comparison.candidate) / self._cost(comparison.reference)
        interval = Interval(ratio, ratio, ratio)
        code, _ = decide(interval, STANDARD)
        if ratio > 1 + STANDARD.target and not self.met:
            self.met = self.asked
        return Verdict(code, Reason(ReasonCode.PROVED, "planted"), interval)

    def confirmed(self, comparison: Comparison) -> Verdict:
        """Return the verdict again: nothing here is by accident."""
        return self.verdict(comparison)

    def _cost(self, problem: ConvProblem) -> float:
        tiles = math.ceil(problem.out_channels / TILE) * problem.in_channels / TILE
        cost = FIXED + tiles * problem.out_height * problem.out_width / 64
        return cost * (SLOWER if holds(self._when, problem) else 1.0)


class Way(Enum):
    """How a hunt goes about it: channel counts spread over their remainders or not, and from an earlier example."""

    RANDOM = "at random"
    SPREAD = "spread"
    FROM_EARLIER = "from an earlier example"


EARLIER = ConvProblem(in_channels=24, height=14, width=14, out_channels=40, kernel=(1, 1))
"""An example of an earlier hunt, which lies 1 channel from the one shape and has nothing to do with the others."""


def measured_until_met(when: str, seed: int, way: Way) -> int:
    """Return how many comparisons were measured until the hazard was met, 0 where it was not."""
    oracle = Planted(when)
    layer = Layer("", 0, EARLIER.descriptor, EARLIER)
    explicit = [Comparison("scripted", layer, EARLIER.prune(2))] if way is Way.FROM_EARLIER else []
    core.global_force_seed = seed  # type: ignore[assignment]
    # Time is up as soon as the hazard is met: what follows, such as shrinking, is not counted.
    late = lambda: 2.0 * bool(oracle.met)  # noqa: E731
    hunt(oracle, SPACE, explicit, budget_seconds=1.0, clock=late, plain=way is Way.RANDOM)
    return oracle.met


def rows() -> Iterator[str]:
    """Yield a table: for each planted hazard how often it was met, and after how many measurements in the median."""
    yield f"| planted | {' | '.join(way.value for way in Way)} |"
    yield f"|---|{'---|' * len(Way)}"
    for title, when in PLANTED.items():
        yield f"| {title}: `{when}` | {' | '.join(_cell(when, way) for way in Way)} |"


def _cell(when: str, way: Way) -> str:
    # Seeds far from each other, since a hunt's batches count on from its own.
    counts = [measured_until_met(when, 1000 * seed, way) for seed in range(SEEDS)]
    median = statistics.median(count or math.inf for count in counts)
    after = f", after {median:.0f}" if median < math.inf else ""
    return f"{sum(map(bool, counts))} of {SEEDS}{after}"


def main() -> None:
    """Print the table."""
    settings.register_profile("hunting", max_examples=MOST, phases=(Phase.generate,), deadline=None)
    settings.load_profile("hunting")
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
