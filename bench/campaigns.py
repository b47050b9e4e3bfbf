"""What the pooled judge does in simulated campaigns: false reds, wrong SAME, and the processes that it needs.

    python -m bench.campaigns                        # all tables; half an hour on one core
    python -m bench.campaigns --campaigns 50         # a glance
    python -m bench.campaigns --table reds --family 1000 --only Cauchy    # a row
    python -m bench.campaigns --preparations h200-preparations.csv    # with layers drawn from recorded ones

Deterministic by --seed. What is drawn is one log ratio a process, with what preparing did to the layer's reference and
to each arm. For false reds every ratio lies on the line, 1.01: there a false red is likeliest.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neverslower.judge.pooled import PooledJudge, Processes, Scatter
from neverslower.judge.stats import Floats, rate_bound
from neverslower.judge.verdict import STANDARD

ARMS = 10
PROCESSES = 8
FAMILIES = (240, 1000)
RATIOS = (1.05, 1.10, 1.30, 2.0)
LINE = math.log1p(STANDARD.tolerance)
SHARE = 0.5
"""The pooled judge's share of the run's errors; the sequential one has the other half."""
JUDGE = PooledJudge(
    replace(STANDARD, family_error=STANDARD.family_error * SHARE, miss_error=STANDARD.miss_error * SHARE)
)
Counts = NDArray[np.intp]
Draw = Callable[[np.random.Generator, int, int], tuple[Floats, Counts]]
"""Effects of shape (comparisons, processes), and each comparison's layer."""


@dataclass(frozen=True)
class Scenario:
    """What preparations do, and which share of the comparisons is slower.

    `together` processes each start at once; `declared` says whether the judge is told so.
    """

    name: str
    draw: Draw
    together: int = 1
    declared: bool = True
    slower: float = 0.0


def layered(effects: Callable[[np.random.Generator, tuple[int, int, int], tuple[int, int, int]], Floats]) -> Draw:
    """Return a draw of layers of ten arms from a function of the shapes of arms and of references."""

    def draw(rng: np.random.Generator, comparisons: int, processes: int) -> tuple[Floats, Counts]:
        layers = comparisons // ARMS
        found = effects(rng, (layers, ARMS, processes), (layers, 1, processes))
        return found.reshape(comparisons, processes), np.repeat(np.arange(layers), ARMS)

    return draw


Shape = tuple[int, int, int]


def _alike(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.asarray(0.003 * (rng.standard_t(3, arm) + rng.standard_t(3, ref)))


def _normal(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.asarray(0.003 * (rng.standard_normal(arm) + rng.standard_normal(ref)))


def _t4(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.asarray(0.003 * (rng.standard_t(4, arm) + rng.standard_t(4, ref)))


def _unlike(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.exp(rng.standard_normal((arm[0], 1, 1))) * _t4(rng, arm, ref)


def _minority(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.where(rng.random((arm[0], 1, 1)) < 0.05, 10.0, 1.0) * _t4(rng, arm, ref)


def _noisy_references(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    noisy = np.where(rng.random((arm[0], 1, 1)) < 0.05, 10.0, 1.0)
    return np.asarray(0.003 * (rng.standard_t(4, arm) + noisy * rng.standard_t(4, ref)))


def _noisy_arms(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    noisy = np.where(rng.random((arm[0], arm[1], 1)) < 0.03, 10.0, 1.0)
    return np.asarray(0.003 * (noisy * rng.standard_t(4, arm) + rng.standard_t(4, ref)))


def _cauchy(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return np.clip(0.002 * (rng.standard_cauchy(arm) + rng.standard_cauchy(ref)), -3, 3)


def _one_sided(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return _normal(rng, arm, ref) + 0.08 * (rng.random(arm) < 0.10)


def _one_sided_references(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return _normal(rng, arm, ref) + 0.08 * (rng.random(ref) < 0.10)


def _growing(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return _t4(rng, arm, ref) * np.linspace(0.4, 2.0, arm[2])


def _trend(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    slope = 0.01 * rng.standard_normal((arm[0], arm[1], 1))
    return _normal(rng, arm, ref) + slope * np.linspace(-0.5, 0.5, arm[2])


def _throttled(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    return _t4(rng, arm, ref) * np.where(rng.random(ref) < 0.1, 10.0, 1.0)


def _clocks(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    modes = rng.integers(0, 2, arm) - rng.integers(0, 2, ref)
    return np.asarray(0.001 * rng.standard_normal(arm) + 0.02 * modes)


def _common(rng: np.random.Generator, arm: Shape, ref: Shape) -> Floats:
    starts = (arm[0], arm[1], -(-arm[2] // 2))
    hit = 0.08 * (rng.random(starts) < 0.10) + 0.003 * rng.standard_normal(starts)
    return _normal(rng, arm, ref) / 2 + np.repeat(hit, 2, axis=2)[..., : arm[2]]


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("nothing slower: 0.3 %, t3, arms and reference", layered(_alike)),
    Scenario("30 % slower, by 3 to 50 %", layered(_alike), slower=0.3),
    Scenario("layers unlike: scales log-normal(1)", layered(_unlike)),
    Scenario("5 % of the layers 10 times noisier", layered(_minority)),
    Scenario("5 % of the references 10 times noisier", layered(_noisy_references)),
    Scenario("3 % of the arms 10 times noisier", layered(_noisy_arms)),
    Scenario("Cauchy, 0.2 %", layered(_cauchy)),
    Scenario("10 % of an arm's passes 8 % slower", layered(_one_sided)),
    Scenario("10 % of a reference's passes 8 % faster", layered(_one_sided_references)),
    Scenario("drift: scatter grows fivefold", layered(_growing)),
    Scenario("trend: ratios move by 1 % (s.d.) over the run", layered(_trend)),
    Scenario("throttled: 10 % of a layer's passes 10 times noisier", layered(_throttled)),
    Scenario("bimodal clocks, 2 % apart", layered(_clocks)),
    Scenario("common to two that start together, declared", layered(_common), together=2),
    Scenario("the same, not declared", layered(_common), together=2, declared=False),
)


def recorded(path: Path) -> Draw:
    """Return a draw of layers from recorded ones (CSV: layer, microseconds, a column a process, and so on).

    A layer keeps its number of arms and its scale. Each process does to it what a recorded process did to some layer,
    in that layer's scale and with a random sign: tails and what arms share stay as they were recorded.
    """
    table = np.genfromtxt(path, delimiter=",", skip_header=2)
    ratios, numbers = table[:, 2:6], table[:, 0].astype(int)
    away = (ratios - ratios.mean(axis=1, keepdims=True)) * math.sqrt(ratios.shape[1] / (ratios.shape[1] - 1))
    layers = [away[numbers == number] for number in np.unique(numbers)]
    scales = [float(np.sqrt(np.mean(layer**2))) for layer in layers]

    def draw(rng: np.random.Generator, comparisons: int, processes: int) -> tuple[Floats, Counts]:
        rows: list[Floats] = []
        names: list[int] = []
        while len(names) < comparisons:
            mine = int(rng.integers(len(layers)))
            arms = len(layers[mine])
            effects = np.empty((arms, processes))
            for process, other in enumerate(rng.integers(len(layers), size=processes)):
                column = layers[other][:, rng.integers(ratios.shape[1])]
                picked = rng.permutation(np.resize(rng.permutation(len(column)), arms))
                effects[:, process] = column[picked] * rng.choice([-1, 1]) * scales[mine] / scales[other]
            names += [len(rows)] * arms
            rows.append(effects)
        return np.concatenate(rows)[:comparisons], np.array(names[:comparisons])

    return draw


def first(processes: Processes, comparisons: int, stored: Scatter | None = None) -> tuple[Counts, Counts]:
    """Return after how many replicates each was first proved slower, and not slower; one more than all where never."""
    most = processes.replicates.shape[1]
    slower, same = np.full(len(processes.layers), most + 1), np.full(len(processes.layers), most + 1)
    for n, bounds in enumerate(JUDGE.looks(processes, comparisons, stored), start=2):
        slower[(bounds.low > LINE) & (slower > n)] = n
        same[(bounds.high < math.log1p(STANDARD.target)) & (same > n)] = n
    return slower, same


def campaign(rng: np.random.Generator, scenario: Scenario, ratios: Floats, processes: int = PROCESSES) -> Processes:
    """Return what a campaign of these ratios measured."""
    count = processes * scenario.together
    effects, layers = scenario.draw(rng, len(ratios), count)
    starts = tuple(np.arange(count) // scenario.together) if scenario.declared else ()
    return Processes(effects + np.log(ratios)[:, None], tuple(layers), starts)


def of(hits: int, trials: int) -> str:
    """Return "x of n", with the 95 % upper bound of the rate."""
    return f"{hits} of {trials} (≤ {rate_bound(hits, trials):.2%})"


def false_reds(rng: np.random.Generator, scenario: Scenario, family: int, campaigns: int) -> str:
    """Return a row: in how many campaigns there was any false red."""
    any_red = reds = 0
    by: list[Counts] = []
    for _ in range(campaigns):
        slower = rng.random(family) < scenario.slower
        ratios = np.where(slower, rng.uniform(1.03, 1.5, family), 1 + STANDARD.tolerance)
        proved, _ = first(campaign(rng, scenario, ratios), family)
        wrong = proved[~slower & (proved <= PROCESSES)]
        any_red, reds = any_red + bool(len(wrong)), reds + len(wrong)
        by.append(wrong)
    at = np.bincount(np.concatenate(by), minlength=PROCESSES + 1)[2 : PROCESSES + 1]
    return f"| {family} | {scenario.name} | {of(any_red, campaigns)} | {reds} | {' '.join(map(str, at))} |"


def detected(rng: np.random.Generator, scenario: Scenario, family: int, campaigns: int) -> str:
    """Return a row: which share is proved slower within 2, 3, 4 and 8 processes, and what of 1.00 and 1.03 is SAME."""
    choice = np.array([1.0, 1.0, 1.0, 1.03, *RATIOS])
    found: dict[float, list[Counts]] = {ratio: [] for ratio in choice}
    for _ in range(campaigns):
        ratios = rng.choice(choice, family)
        slower, same = first(campaign(rng, scenario, ratios), family)
        for ratio, proved in found.items():
            proved.append((slower if ratio > 1.03 else same)[ratios == ratio])
    cells = [_within(np.concatenate(found[ratio])) for ratio in RATIOS]
    wrong = np.concatenate(found[1.03]) <= PROCESSES
    cells += [_within(np.concatenate(found[1.0])), of(int(wrong.sum()), len(wrong))]
    return f"| {family} | {scenario.name} | {' | '.join(cells)} |"


def _within(processes: Counts) -> str:
    return " / ".join(f"{np.mean(processes <= n):.0%}" for n in (2, 3, 4, PROCESSES))


def one_layer(rng: np.random.Generator, scenario: Scenario, campaigns: int) -> str:
    """Return a row: a run of a single layer of ten, judged by the stored scatter of a run of the same kind."""
    any_red = 0
    found: dict[float, list[Counts]] = {ratio: [] for ratio in RATIOS}
    for number in range(campaigns):
        if number % 20 == 0:
            earlier = campaign(rng, scenario, np.ones(800), processes=2)
            stored = Scatter.of(earlier, "an earlier run")
        proved, _ = first(campaign(rng, scenario, np.full(ARMS, 1 + STANDARD.tolerance)), ARMS, stored)
        any_red += bool(np.any(proved <= PROCESSES))
        if number % 10 == 0:
            ratios = rng.choice(RATIOS, ARMS)
            proved, _ = first(campaign(rng, scenario, ratios), ARMS, stored)
            for ratio in RATIOS:
                found[ratio].append(proved[ratios == ratio])
    cells = [_within(np.concatenate(found[ratio])) for ratio in RATIOS]
    return f"| {scenario.name} | {of(any_red, campaigns)} | {' | '.join(cells)} |"


Families = tuple[int, ...]


def reds_table(scenarios: tuple[Scenario, ...], campaigns: int, seed: int, families: Families) -> Iterator[str]:
    """Yield in how many campaigns there was any false red."""
    yield f"False reds, every ratio on the line; the judge's share of the family's error is {SHARE:.0%}"
    yield f"| family | effects of preparation | campaigns with any | reds | after 2 … {PROCESSES} processes |"
    yield "|---|---|---|---|---|"
    for family in families:
        for scenario in scenarios:
            yield false_reds(np.random.default_rng(seed), scenario, family, campaigns)


def detection_table(scenarios: tuple[Scenario, ...], campaigns: int, seed: int, families: Families) -> Iterator[str]:
    """Yield what is proved, of ten comparisons for each campaign of the other tables."""
    yield f"Proved within 2 / 3 / 4 / {PROCESSES} processes, the confirming one among them"
    yield "| family | effects of preparation | 1.05 | 1.10 | 1.30 | 2.0 | 1.00 is SAME | 1.03 is called SAME |"
    yield "|---|---|---|---|---|---|---|---|"
    for family in families:
        for scenario in scenarios:
            if scenario.declared:
                yield detected(np.random.default_rng(seed), scenario, family, max(1, campaigns * 10 // family))


def stored_table(scenarios: tuple[Scenario, ...], campaigns: int, seed: int, families: Families) -> Iterator[str]:
    """Yield both of runs of a single layer."""
    yield f"One layer of ten, by the stored scatter of 80 (run's error {JUDGE.thresholds.family_error})"
    yield "| effects of preparation | campaigns with any false red | 1.05 | 1.10 | 1.30 | 2.0 |"
    yield "|---|---|---|---|---|---|"
    for scenario in scenarios:
        if scenario.declared:
            yield one_layer(np.random.default_rng(seed), scenario, campaigns)


TABLES = {"reds": reds_table, "detection": detection_table, "stored": stored_table}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaigns", type=int, default=2000, help="a row")
    parser.add_argument("--table", choices=TABLES, action="append")
    parser.add_argument("--family", type=int, choices=FAMILIES, action="append")
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--preparations", type=Path, help="recorded log ratios of processes, to draw layers from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    scenarios = SCENARIOS
    if options.preparations:
        scenarios = (*scenarios, Scenario(f"drawn from {options.preparations.name}", recorded(options.preparations)))
    scenarios = tuple(one for one in scenarios if not options.only or options.only in one.name)
    began = time.monotonic()
    for name in options.table or TABLES:
        for line in TABLES[name](scenarios, options.campaigns, options.seed, tuple(options.family or FAMILIES)):
            print(line, flush=True)
        print()
    print(f"{options.campaigns} campaigns a row, seed {options.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
