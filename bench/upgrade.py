"""Replays pairs of processes, old against new: what is found after how many pairs, by the plan alone and with looks.

    python -m bench.upgrade bench/data/journals/cudnn-9.19-*.jsonl.xz \
        bench/data/journals/cudnn-h200-resnet50-float16-24-passes.jsonl.xz
    python -m bench.upgrade --simulate 2000 --family 240

A journal of a run with --against holds pairs. In any other journal two neighbouring passes of one library count as a
pair. Of two versions the median of a comparison's pairs is taken out first; a library against itself stays as it was
recorded. Then a change is planted in each comparison, one of RATIOS, and the pairs are taken in an order drawn anew for
each campaign. "planned" takes the planned number of pairs of everything and judges once; "looks" is what a run does:
what is clear takes no more pairs. Simulated pairs have the effects of bench.campaigns, and every change lies on the
line of 1.01. "Shown again": one more pair lies beyond the line, as a run demands before anything is red. Deterministic
by --seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode

import numpy as np

from bench.campaigns import LINE, SCENARIOS, campaign, of
from neverslower.campaign.resume import load
from neverslower.judge.change import PassSpread, in_pairs, judge_pairs, levels_of, pairs_needed
from neverslower.judge.paired import FEWEST_PAIRS, at_the_end, decided_early, judge_all
from neverslower.judge.stats import Floats
from neverslower.judge.verdict import STANDARD, Code, Thresholds

RATIOS = (0.95, 1.0, 1.03, 1.05, 1.10, 1.30)
UNCHANGED = 0.5
"""The share of the comparisons in which nothing is planted; the others share the other ratios."""
MOST = 24
Layers = Sequence[object]


@dataclass(frozen=True)
class Pool:
    """Recorded pairs: differences of log medians, of shape (comparisons, pairs), and each comparison's layer."""

    name: str
    differences: Floats
    layers: Layers


@dataclass(frozen=True)
class Judged:
    """What a rule says of each comparison of a campaign, and after how many pairs."""

    codes: Sequence[Code]
    pairs: Sequence[int]


Rule = Callable[[Floats, Layers], Judged]


def read(path: Path) -> Pool:
    """Return the pairs of a journal: as many of each comparison as most have, without those that have fewer."""
    recorded = load(path, "")
    now = recorded.in_order
    if recorded.before and recorded.before.passes:
        before = recorded.before.in_order
        found = {key: in_pairs(before[key], passes) for key, passes in now.items() if key in before}
        itself = recorded.fingerprints == recorded.before.fingerprints
    else:
        levels = {key: np.array(levels_of(passes)) for key, passes in now.items()}
        found = {key: list(each[1::2] - each[: len(each) // 2 * 2 : 2]) for key, each in levels.items()}
        itself = True
    usual = mode(map(len, found.values()))
    kept = {key: pairs[:usual] for key, pairs in found.items() if len(pairs) >= usual}
    differences = np.array(list(kept.values()))
    if not itself:
        differences -= np.median(differences, axis=1, keepdims=True)
    return Pool(path.name.partition(".json")[0], differences, [key[1] for key in kept])


def planned(differences: Floats, layers: Layers) -> Judged:
    """Judge once, after as many pairs as the scatter of the first ones asks for."""
    number = min(differences.shape[1], _needed(differences, STANDARD))
    pairs = _first(differences, [number] * len(differences))
    spread = PassSpread.of(dict(pairs))
    codes = [judge_pairs(levels, spread, key, len(pairs)).code for key, levels in pairs.items()]
    return Judged(codes, [number] * len(pairs))


def looks(differences: Floats, layers: Layers) -> Judged:
    """Judge as a run does: what is clear after some pairs takes no more of them."""
    number = min(differences.shape[1], _needed(differences, at_the_end(STANDARD)))
    taken = [FEWEST_PAIRS] * len(differences)
    for more in range(FEWEST_PAIRS + 1, number + 1):
        clear = decided_early(_first(differences, taken), layers.__getitem__)
        taken = [pairs if key in clear else more for key, pairs in enumerate(taken)]
    verdicts = judge_all(_first(differences, taken), layers.__getitem__)
    return Judged([verdicts[key].code for key in range(len(taken))], taken)


RULES: Mapping[str, Rule] = {"planned": planned, "looks": looks}


def _needed(differences: Floats, lines: Thresholds) -> int:
    spread = PassSpread.of(dict(enumerate(differences[:, :FEWEST_PAIRS].tolist())))
    return max(FEWEST_PAIRS, pairs_needed(spread, len(differences), MOST, lines))


def _first(differences: Floats, pairs: Sequence[int]) -> dict[int, list[float]]:
    """Return so many pairs of each comparison, by its number."""
    return {key: differences[key, :number].tolist() for key, number in enumerate(pairs)}


def replayed(pool: Pool, campaigns: int, seed: int) -> Iterator[str]:
    """Yield a Markdown table of one pool."""
    count, most = pool.differences.shape
    yield f"{pool.name}: {count} comparisons of {len(set(pool.layers))} layers, {most} pairs; {campaigns} campaigns"
    yield "| rule | pairs, mean | " + " | ".join(f"{ratio:g}: right; pairs" for ratio in RATIOS) + " | false SLOWER |"
    yield "|---" * (3 + len(RATIOS)) + "|"
    for name, rule in RULES.items():
        rng = np.random.default_rng(seed)
        truth, codes, pairs = np.empty(0), np.empty(0, dtype=object), np.empty(0)
        for _ in range(campaigns):
            others = [ratio for ratio in RATIOS if ratio != 1]
            ratios = np.where(rng.random(count) < UNCHANGED, 1.0, rng.choice(others, count))
            judged = rule(pool.differences[:, rng.permutation(most)] + np.log(ratios)[:, None], pool.layers)
            truth, pairs = np.append(truth, ratios), np.append(pairs, judged.pairs)
            codes = np.append(codes, judged.codes)
        cells = (_cell(ratio, codes[truth == ratio], pairs[truth == ratio]) for ratio in RATIOS)
        false = int(np.sum((codes == Code.SLOWER) & (truth <= 1)))
        yield f"| {name} | {pairs.mean():.1f} | {' | '.join(cells)} | {of(false, int(np.sum(truth <= 1)))} |"


def _cell(ratio: float, codes: Floats, pairs: Floats) -> str:
    """Return the share of right verdicts and the mean number of pairs; of 1.03 what is called SLOWER and SAME."""
    shares = {code: float(np.mean(codes == code)) for code in (Code.SLOWER, Code.SAME, Code.FASTER)}
    if ratio == 1 + STANDARD.target:
        return f"{shares[Code.SLOWER]:.0%}, SAME {shares[Code.SAME]:.1%}; {pairs.mean():.1f}"
    right = Code.FASTER if ratio < 1 else Code.SAME if ratio == 1 else Code.SLOWER
    return f"{shares[right]:.0%}; {pairs.mean():.1f}"


def simulated(family: int, campaigns: int, seed: int) -> Iterator[str]:
    """Yield a Markdown table of any false SLOWER in simulated campaigns."""
    yield f"Campaigns of {family} with any false SLOWER, every change on the line; then those that are shown again"
    yield "| effects of a pair | " + " | ".join(f"{rule} | shown again" for rule in RULES) + " |"
    yield "|---" * (1 + 2 * len(RULES)) + "|"
    for scenario in SCENARIOS:
        if scenario.slower or scenario.together > 1:
            continue
        rng = np.random.default_rng(seed)
        red = {name: np.zeros(2, dtype=int) for name in RULES}
        for _ in range(campaigns):
            drawn = campaign(rng, scenario, np.full(family, 1 + STANDARD.tolerance), MOST + 1)
            for name, rule in RULES.items():
                slower = np.array(rule(drawn.log_ratios[:, :MOST], drawn.layers).codes) == Code.SLOWER
                red[name] += slower.any(), np.any(slower & (drawn.log_ratios[:, MOST] > LINE))
        cells = (of(int(hits), campaigns) for name in RULES for hits in red[name])
        yield f"| {scenario.name} | {' | '.join(cells)} |"


def main() -> None:
    """Print a table for each journal, or the simulated one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("journals", type=Path, nargs="*")
    parser.add_argument("--campaigns", type=int, default=12, help="replayed of each journal")
    parser.add_argument("--simulate", type=int, default=0, help="so many campaigns a row")
    parser.add_argument("--family", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for path in options.journals:
        print("\n".join(replayed(read(path), options.campaigns, options.seed)), end="\n\n", flush=True)
    for line in simulated(options.family, options.simulate, options.seed) if options.simulate else ():
        print(line, flush=True)


if __name__ == "__main__":
    main()
