"""How much of a time budget turns into verdicts: the scheduler against one with hindsight, on drawn costs and needs.

    python -m bench.budgets                 # all of them, a minute
    python -m bench.budgets --runs 2        # a glance

Simulated: a worker whose clock moves by what each step is drawn to cost, and a judge that has seen enough of a
comparison after as many passes as are drawn for it. The scheduler is the campaign's own. The other one knows every cost
and every need, and takes the cheapest comparisons first, as many as the budget lasts for. A budget is given in passes:
in what one process takes to measure all comparisons once. Examining each problem is paid from it too, and takes as long
as one pass here. `costs known` are decided by who knows every cost, and how often it is best to try, but not what each
comparison needs: nobody without hindsight does much better.

`left` is the worst factor between the time that was left after the first pass and what the run said then.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.settings import Settings
from neverslower.evidence.observation import Examined, PairedPass, Plan
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.worker.process import Worker, WorkerSpec

LAYERS, ARMS = 12, 8
BUDGETS = (2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
MOST_PASSES = 24
NEVER = 99
"""The need of what no number of passes decides."""
ROUNDS = 18
"""Rounds of either side that a pass of eight blocks takes, those that warm up among them."""


@dataclass(frozen=True)
class Kind:
    """How many passes comparisons need: `needs` with their shares; `spread` is that of layers' costs, in log."""

    name: str
    needs: Mapping[int, float]
    spread: float


KINDS = (
    Kind("clear", {2: 0.5, 3: 0.35, 5: 0.1, NEVER: 0.05}, 0.5),
    Kind("clear, costs unlike", {2: 0.5, 3: 0.35, 5: 0.1, NEVER: 0.05}, 1.2),
    Kind("mixed", {2: 0.25, 3: 0.3, 5: 0.2, 8: 0.15, NEVER: 0.1}, 0.5),
    Kind("mixed, costs unlike", {2: 0.25, 3: 0.3, 5: 0.2, 8: 0.15, NEVER: 0.1}, 1.2),
    Kind("slow to decide", {6: 0.4, 7: 0.3, 10: 0.2, NEVER: 0.1}, 0.5),
)


@dataclass(frozen=True)
class Drawn:
    """One run's work: by problem the seconds of a pass and of an examination, by candidate the passes needed."""

    comparisons: list[Comparison]
    costs: dict[str, float]
    examining: dict[str, float]
    needs: dict[str, int]
    slower: frozenset[str]
    start: float

    @classmethod
    def of(cls, kind: Kind, seed: int, layers: int = LAYERS) -> Drawn:
        """Draw a run of a kind."""
        rng = np.random.default_rng(seed)
        comparisons = [one for number in range(layers) for one in _layer(number)]
        costs: dict[str, float] = {}
        for one in comparisons:
            reference, candidate = one.keys
            costs.setdefault(reference, 0.05 * float(np.exp(kind.spread * rng.standard_normal())))
            costs[candidate] = costs[reference] * rng.uniform(0.5, 1.0)
        examining = {key: cost * rng.uniform(0.7, 1.3) for key, cost in costs.items()}
        drawn = rng.choice(list(kind.needs), len(comparisons), p=list(kind.needs.values()))
        needs = {one.keys[1]: int(need) for one, need in zip(comparisons, drawn, strict=True)}
        slower = frozenset(key for key in needs if rng.random() < 0.3)
        return cls(comparisons, costs, examining, needs, slower, 0.05 * sum(costs.values()))

    @property
    def a_pass(self) -> float:
        """Return the seconds of one process that measures everything once."""
        return self.start + sum(self.costs.values())

    def seconds(self, taken: Iterable[Comparison], most: int = MOST_PASSES) -> float:
        """Return what it takes to examine these and measure each as often as it needs, at `most` so often."""
        passes: dict[str, int] = {}
        for one in taken:
            reference, candidate = one.keys
            passes[candidate] = min(most, self.needs[candidate])
            passes[reference] = max(passes.get(reference, 0), passes[candidate])
        measuring = sum(self.costs[key] * count for key, count in passes.items())
        return self.start * max(passes.values(), default=0) + measuring + sum(self.examining[key] for key in passes)

    def with_hindsight(self, budget: float) -> int:
        """Return how many comparisons the budget lasts for, the cheapest first."""
        able = [one for one in self.comparisons if self.needs[one.keys[1]] <= MOST_PASSES]
        able.sort(key=lambda one: self.needs[one.keys[1]] * self.costs[one.keys[1]])
        taken: list[Comparison] = []
        for one in able:
            if self.seconds([*taken, one]) <= budget:
                taken.append(one)
        return len(taken)

    def with_costs(self, budget: float) -> int:
        """Return how many are decided by who knows all costs and how often to try, but not what each needs."""
        ordered = sorted(self.comparisons, key=lambda one: self.costs[one.keys[1]])
        return max(self._tried(ordered, budget, most) for most in (2, 3, 5, 8, MOST_PASSES))

    def _tried(self, ordered: Sequence[Comparison], budget: float, most: int) -> int:
        """Return how many are decided where each is tried `most` times, in this order."""
        count = sum(self.seconds(ordered[: end + 1], most) <= budget for end in range(len(ordered)))
        return sum(self.needs[one.keys[1]] <= most for one in ordered[:count])


def _layer(number: int) -> list[Comparison]:
    layer = Layer(
        "", number, f"L{number}", ConvProblem(in_channels=8, height=6 + number, width=6, out_channels=16, kernel=(1, 1))
    )
    return [Comparison("simulated", layer, layer.problem.prune(arm + 1), telling=arm) for arm in range(ARMS)]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self.now


class Simulated(Worker):
    """A worker that takes the time drawn, and does nothing."""

    def __init__(self, drawn: Drawn, clock: Clock, spec: WorkerSpec, process: int) -> None:
        self._drawn, self._clock_of_all = drawn, clock
        super().__init__(spec, process)

    def _start(self) -> None:
        self._clock_of_all.now += self._drawn.start

    def _ask(self, name: str, *arguments: Any, limit: float | None = None, subjects: int = 1) -> Any:
        answers: dict[str, Callable[..., Any]] = {
            "examine": self._examine,
            "examine_together": lambda keys: [("ok", self._examine(key)) for key in keys],
            "sweep": self._sweep,
        }
        if name in answers:
            return answers[name](*arguments)
        return OPENED if name == "open" else {}

    def _examine(self, key: str) -> dict[str, Any]:
        self._clock_of_all.now += self._drawn.examining[key]
        return asdict(Examined(Plan("plain"), 0.0, 1.0, self._drawn.costs[key] * 0.7 / ROUNDS))

    def _sweep(
        self, reference: str, candidates: Sequence[str], sweeps: int, seed: str, seconds: Sequence[float]
    ) -> dict[str, Any]:
        self._clock_of_all.now += sum(self._drawn.costs[key] for key in (reference, *candidates))
        taken = np.full((1 + len(candidates), sweeps, 2), 1e-3)
        rest = {"iterations": (1,) * len(taken), "caches": ("", *candidates), "discarded": 0, "why_discarded": ""}
        rest["offsets"] = ((),) * len(taken)
        return {"seconds": taken.tobytes(), **rest}


OPENED = {
    "fingerprint": {"backend": "simulated", "device": "none", "version": "1", "build": "0"},
    "clock": "simulated",
    "exclusive": False,
    "evidence": "device_time",
    "at_once": 1,
    "offers": (),
    "lock": "none",
    "remarks": (),
    "shortest_round": 1e-6,
}


@dataclass(frozen=True)
class DrawnJudge:
    """Decides what it is drawn to decide, after the passes that are drawn for it; a SLOWER by the last of them."""

    drawn: Drawn
    most_passes: int = MOST_PASSES

    def fewest_passes(self, comparisons: int) -> int:
        """Return the least need of any."""
        return min(self.drawn.needs.values())

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """Return the verdict that is drawn, if there are passes enough."""
        key = passes[0].cache
        slower = key in self.drawn.slower
        if len(passes) < self.drawn.needs[key] - slower:
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, "as drawn"), Interval(1.0, 0.9, 1.1))
        return Verdict(Code.SLOWER if slower else Code.SAME, Reason(ReasonCode.PROVED, "as drawn"))

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        """Return nothing: no noise is drawn."""
        return None, None

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        """Return whether it is decided, or never will be."""
        return self(passes, comparisons).code is not Code.UNDECIDED or len(passes) >= self.most_passes

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        """Return the verdict again."""
        return self([*passes, later], comparisons)


@dataclass
class Noted:
    """What a run writes to its journal, with the simulated time."""

    clock: Clock
    lines: list[tuple[float, str, Mapping[str, Any]]] = field(default_factory=list)

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Note a line."""
        self.lines.append((self.clock.now, event, fields))


def run(drawn: Drawn, budget: float | None) -> tuple[Findings, Noted]:
    """Run a campaign of the drawn work; return what it found, and what it wrote and when."""
    clock = Clock()

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        return Simulated(drawn, clock, spec, process)

    noted = Noted(clock)
    campaign = Campaign(
        {"simulated": WorkerSpec("scripted")},
        Settings(time_budget=budget),
        cast(Journal, noted),
        DrawnJudge(drawn),
        clock=clock,
        start=start,
    )
    return campaign.run(drawn.comparisons), noted


def decided(findings: Findings) -> int:
    """Return how many comparisons were decided."""
    return sum(result.verdict.code in (Code.SAME, Code.SLOWER) for result in findings.results.values())


def off_by(noted: Noted) -> float:
    """Return the factor between the time left after the first pass and what the run said then; 1 where it was over."""
    said: list[tuple[float, float]] = [
        (now, fields["seconds_left"]) for now, event, fields in noted.lines if event == "forecast"
    ]
    if not said:
        return 1.0
    now, seconds = said[0]
    left = noted.lines[-1][0] - now
    return max(left / seconds, seconds / left)


@dataclass(frozen=True)
class Row:
    """What came of one run: comparisons decided, by the others too, and the factor of the time left."""

    decided: int
    with_hindsight: int
    costs_known: int
    off_by: float

    @classmethod
    def of(cls, drawn: Drawn, passes: float) -> Row:
        """Run the drawn work with a budget of so many passes."""
        budget = passes * drawn.a_pass
        findings, noted = run(drawn, budget)
        return cls(decided(findings), drawn.with_hindsight(budget), drawn.with_costs(budget), off_by(noted))


def table(runs: int, budgets: Sequence[float] = BUDGETS, kinds: Sequence[Kind] = KINDS) -> Iterator[str]:
    """Yield a row for each kind and budget."""
    yield "| passes needed | budget, passes | decided | with hindsight | share | costs known | left, worst factor |"
    yield "|---|---|---|---|---|---|---|"
    for kind in kinds:
        for passes in budgets:
            rows = [Row.of(Drawn.of(kind, seed), passes) for seed in range(runs)]
            ours, best = sum(row.decided for row in rows), sum(row.with_hindsight for row in rows)
            known, worst = sum(row.costs_known for row in rows), max(row.off_by for row in rows)
            yield f"| {kind.name} | {passes:g} | {ours} | {best} | {ours / best:.0%} | {known} | {worst:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="a row")
    options = parser.parse_args()
    for line in table(options.runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
