"""What the sequential judge does in simulation: errors, samples, coverage, against a fixed-size test and Wald's bound.

    python -m bench.simulate                # all tables, a few minutes on one core
    python -m bench.simulate --only errors  # one of them

Deterministic by --seed. What is drawn are the log ratios of blocks, not single rounds, so that hundreds of thousands of
comparisons are a matter of minutes; `selftests/test_sequential.py` holds that the judge and `decisions` agree.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.fixed_size import FixedSizeJudge
from neverslower.evidence.observation import PairedPass
from neverslower.judge import stats
from neverslower.judge.sequential import (
    STANDARD_PRESET,
    Preset,
    SequentialJudge,
    first_crossing,
    log_evidence,
)
from neverslower.judge.stats import Floats
from neverslower.judge.verdict import STANDARD, Thresholds

RULE_OF_THREE = -math.log(0.05)
"""Nothing seen in n trials: the 95 % upper bound of the rate is this over n."""
UNDECIDED, SAME, FASTER, SLOWER = range(4)
CHUNK = 5000
FIRST_PASSES = 4
FAMILY = 1000
Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Decided:
    """What became of each comparison: its code, and the passes that were taken; at the budget some are unfinished."""

    codes: Counts
    passes: Counts
    unfinished: NDArray[np.bool_]

    def share(self, code: int) -> float:
        """The share of comparisons that came out so."""
        return float(np.mean(self.codes == code))


def decisions(units: Floats, judge: SequentialJudge, comparisons: int = FAMILY) -> Decided:
    """What the judge makes of units (comparisons, passes, units of a pass), asked after every pass.

    Most are decided by the first passes: the others alone are looked at again with all of theirs.
    """
    found = _decisions(units[:, :FIRST_PASSES], judge, comparisons)
    left = np.flatnonzero(found.unfinished)
    if units.shape[1] > FIRST_PASSES and len(left):
        again = _decisions(units[left], judge, comparisons)
        found.codes[left], found.passes[left], found.unfinished[left] = again.codes, again.passes, again.unfinished
    return found


def _decisions(units: Floats, judge: SequentialJudge, comparisons: int) -> Decided:
    passes = [units[:, number] for number in range(units.shape[1])]
    each = units.shape[2]
    lines, preset = judge.thresholds, judge.preset
    error = lines.family_error / comparisons

    def passes_until(sign: int, line: float, level: float, unlucky: float) -> Counts:
        evidence = log_evidence([sign * one for one in passes], np.full(len(units), sign * math.log(line)), unlucky)
        return np.asarray(-(-first_crossing(evidence, level) // each))

    slower = np.maximum(
        passes_until(1, 1 + lines.tolerance, error, 0.0),
        passes_until(1, 1 + lines.tolerance, preset.first_error(error), preset.unlucky),
    )
    same = passes_until(-1, 1 + lines.target, lines.miss_error, preset.unlucky)
    faster = passes_until(-1, 1 - lines.tolerance, lines.miss_error, preset.unlucky)
    codes, taken = np.full(len(units), UNDECIDED), np.full(len(units), len(passes))
    going = np.full(len(units), True)
    target = math.log1p(lines.target)
    for number in range(1, len(passes) + 1):
        not_slower = going & (same <= number)
        codes[not_slower] = np.where(faster[not_slower] <= number, FASTER, SAME)
        proved = np.flatnonzero(going & ~not_slower & (slower <= number))
        codes[proved] = SLOWER
        ended = proved[centres(units[proved, :number].reshape(len(proved), number * each)) >= target]
        for done in (not_slower, ended):
            taken[done] = number
            going[done] = False
    return Decided(codes, taken, going)


def centres(units: Floats) -> Floats:
    """The Hodges–Lehmann centre of each row."""
    rows, columns = np.triu_indices(units.shape[1])
    parts = np.array_split(units, max(1, len(units) // 500))
    return np.concatenate([np.median((one[:, rows] + one[:, columns]) / 2, axis=1) for one in parts])


Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
"""Log ratios of blocks, of shape (comparisons, passes, blocks), of deviation 1 or so, symmetric about 0."""


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Normal blocks."""
    return rng.standard_normal(shape)


def spikes(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t of two degrees of freedom: no variance."""
    return rng.standard_t(2, shape)


def drift(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise that grows fivefold over a pass, and what a drift's curvature leaves in mirrored blocks."""
    place = np.linspace(0, 1, shape[-1])
    mirrored = np.where(np.arange(shape[-1]) % 2, -1, 1)
    curve = rng.normal(0, 1, (*shape[:-1], 1))
    return np.asarray(rng.standard_normal(shape) * (0.4 + 1.6 * place) + curve * mirrored)


def throttling(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """A tenth of the blocks fall into a change of clock: one side of them is off by 20 deviations."""
    hit = rng.random(shape) < 0.1
    return np.asarray(rng.standard_normal(shape) + hit * rng.choice([-20.0, 20.0], shape))


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Each side runs at either of two clocks in each block: three modes, far apart."""
    modes = rng.integers(0, 2, shape) - rng.integers(0, 2, shape)
    return np.asarray(0.2 * rng.standard_normal(shape) + 2.0 * modes)


def correlated(rng: np.random.Generator, shape: tuple[int, ...], by: float = 0.18) -> Floats:
    """Blocks of which neighbours correlate as in the pool of the two-core machine."""
    noise = rng.standard_normal(shape)
    for block in range(1, shape[-1]):
        noise[..., block] = by * noise[..., block - 1] + math.sqrt(1 - by**2) * noise[..., block]
    return noise


NOISES: dict[str, Noise] = {one.__name__: one for one in (normal, spikes, drift, throttling, bimodal, correlated)}


def units(
    rng: np.random.Generator, count: int, preset: Preset, ratio: float, deviation: float, noise: Noise = normal
) -> Floats:
    """Units of `count` comparisons, passes of the preset; `deviation` is that of a block's log ratio."""
    shape = (count, preset.most_passes, preset.blocks_at_once)
    blocks = math.log(ratio) + deviation * noise(rng, shape)
    length = preset.block_length
    return np.asarray(blocks.reshape(*shape[:2], shape[2] // length, length).mean(axis=3))


def prepared(rng: np.random.Generator, count: int, passes: int, share: float, effect: float) -> Floats:
    """What preparations do to log ratios: nothing but for a share of them, which is slower or faster by `effect`."""
    hit = rng.random((count, passes, 1)) < share
    return np.asarray(hit * rng.choice([-effect, effect], (count, passes, 1)))


def chunks(total: int) -> Iterator[int]:
    """Sizes that sum to `total`, none too large for memory."""
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)


def errors(rng: np.random.Generator, scale: float) -> Iterator[str]:
    """False SLOWER, at the level of one comparison in a campaign of a thousand."""
    judge, preset = SequentialJudge(), STANDARD_PRESET
    yield f"False SLOWER of a preset {preset.name} in campaigns of {FAMILY} (level 1e-5 each)"
    yield "| noise of a block | ratio | preparations | comparisons | false SLOWER | upper bound of the rate |"
    yield "|---|---|---|---|---|---|"
    cases = [("normal", 0.01, 1.0, 0.0, 300_000), ("normal", 0.03, 1.01, 0.0, 20_000)]
    cases += [(name, 0.02, ratio, 0.0, 10_000) for name in NOISES if name != "normal" for ratio in (1.0, 1.01)]
    cases += [("normal", deviation, 1.0, share, 20_000) for deviation in (0.002, 0.01) for share in (0.03, 0.06)]
    for name, deviation, ratio, share, total in cases:
        wrong, count = 0, max(1, round(total * scale))
        for size in chunks(count):
            drawn = units(rng, size, preset, ratio, deviation, NOISES[name])
            drawn += prepared(rng, size, preset.most_passes, share, 0.05)
            wrong += int(np.sum(decisions(drawn, judge).codes == SLOWER))
        what = f"{share:.0%} off by 5 %" if share else "alike"
        bound = f"{RULE_OF_THREE / count:.1e}" if not wrong else f"{(wrong + 2 * math.sqrt(wrong) + 2) / count:.1e}"
        yield f"| {name}, {deviation:.1%} | {ratio:.2f} | {what} | {count} | {wrong} | {bound} |"


def campaigns(rng: np.random.Generator, scale: float) -> Iterator[str]:
    """Any false red in campaigns of which 30 % are truly slower."""
    judge, preset = SequentialJudge(), STANDARD_PRESET
    number = max(1, round(100 * scale))
    for share in (0.0, 0.03):
        any_red = found = missed = blocks = 0
        for _ in range(number):
            ratio = np.where(
                np.arange(FAMILY) < 0.3 * FAMILY, rng.uniform(1.03, 1.3, FAMILY), rng.uniform(0.8, 1.01, FAMILY)
            )
            drawn = units(rng, FAMILY, preset, 1.0, 0.02) + np.log(ratio)[:, None, None]
            drawn += prepared(rng, FAMILY, preset.most_passes, share, 0.05)
            decided = decisions(drawn, judge)
            red = decided.codes == SLOWER
            any_red += bool(np.any(red & (ratio <= 1.01)))
            found += int(np.sum(red & (ratio > 1.03)))
            missed += int(np.sum((decided.codes == SAME) & (ratio > 1.03)))
            blocks += int(decided.passes.sum()) * preset.blocks_at_once
        slower = number * round(0.3 * FAMILY)
        yield (
            f"{number} campaigns of {FAMILY}, 30 % slower by 3 to 30 %, {share:.0%} of the preparations off by 5 %: "
            f"any false red in {any_red}; {found / slower:.2%} of the slower found, {missed / slower:.2%} called SAME; "
            f"{blocks / number / FAMILY:.0f} blocks a comparison"
        )


def coverage(rng: np.random.Generator, scale: float) -> Iterator[str]:
    """How often the interval at the time of stopping holds the ratio, and its width beside the fixed-size one."""
    count = max(1, round(400 * scale))
    preset = STANDARD_PRESET
    lines = Thresholds(family_error=0.025, miss_error=0.025)
    judge = SequentialJudge(lines, replace(preset, unlucky_error=0.025))
    yield f"| ratio | stopped after, blocks | interval (95 %) holds it, of {count} | width over the fixed-size one's |"
    yield "|---|---|---|---|"
    for ratio in (1.0, 1.02, 1.03, 1.05):
        holds, widths, taken = 0, [], []
        for _ in range(count):
            passes: list[PairedPass] = []
            while not passes or not judge.enough(passes, 1):
                seconds = np.exp(rng.normal(0, 0.02, (preset.blocks_at_once, 2, 2)))
                seconds[:, 1] *= ratio
                passes.append(PairedPass(seconds, (1, 1), "simulated"))
            verdict, fixed = judge(passes, 1), FixedSizeJudge(lines)(passes, 1)
            taken.append(len(passes) * preset.blocks_at_once)
            if verdict.ratio is None or verdict.ratio.low == 0:
                holds += verdict.ratio is None or verdict.ratio.high >= ratio
                continue
            holds += verdict.ratio.low <= ratio <= verdict.ratio.high
            if fixed.ratio is not None:
                widths.append((verdict.ratio.high - verdict.ratio.low) / (fixed.ratio.high - fixed.ratio.low))
        width = f"{np.median(widths):.2f}" if widths else "one-sided so far"
        yield f"| {ratio:.2f} | {np.mean(taken):.0f} | {holds / count:.1%} | {width} |"


def samples(rng: np.random.Generator, scale: float) -> Iterator[str]:
    """Units until a verdict, beside a fixed-size signed-rank test of equal errors and the least that Wald allows."""
    count = max(1, round(500 * scale))
    lines = STANDARD
    error = lines.family_error / FAMILY
    gap, gap_same = math.log((1 + lines.target) / (1 + lines.tolerance)), math.log1p(lines.target)
    yield "Units of two blocks until a verdict, on average; UNDECIDED at four times the fixed size"
    yield "First proof and verdict: all units pooled, a look a unit; standard: the preset, a look a pass"
    yield "| deviation of a unit | ratio | fixed-size | Wald | first proof | verdict | standard | UNDECIDED |"
    yield "|---|---|---|---|---|---|---|---|"
    for deviation in (0.01, 0.02, 0.03):
        quantiles = stats.normal_quantile(1 - error) + stats.normal_quantile(1 - lines.miss_error)
        fixed = max(stats.smallest_sample(error), math.pi / 3 * (quantiles * deviation / gap) ** 2)
        budget = 4 * math.ceil(fixed)
        for ratio in (1.0, 1.03, 1.05):
            shift = math.log(ratio / (1 + lines.tolerance)) / deviation
            bound = (
                wald_units(gap_same / deviation, lines.miss_error, error)
                if ratio == 1
                else wald_units(shift, error, lines.miss_error)
            )
            row = f"| {deviation:.0%} | {ratio:.2f} | {fixed:.0f} | {bound:.0f} "
            single = replace(STANDARD_PRESET, blocks_at_once=2, most_blocks=2 * budget, unlucky=0.0)
            spread_out = replace(STANDARD_PRESET, most_blocks=2 * budget)
            undecided = 0.0
            for preset in (single, spread_out):
                drawn = units(rng, count, preset, ratio, deviation * math.sqrt(2))
                if preset is single:
                    row += f"| {_first_proof(drawn, ratio, lines, error):.0f} "
                found = decisions(drawn, SequentialJudge(lines, preset))
                row += f"| {found.passes.mean() * preset.blocks_at_once / 2:.0f} "
                undecided = max(undecided, found.share(UNDECIDED))
            yield row + f"| {undecided:.1%} |"


def wald_units(shift: float, error: float, miss: float) -> float:
    """Return the fewest units of unit variance that a test with these errors needs on average where the gap is `shift`.

    Wald's bound for a normal mean of 0 against one of `shift`, at `shift`: the information at which the likelihood
    ratio has made up for both errors, over the information in one unit.
    """
    information = (1 - miss) * math.log((1 - miss) / error) + miss * math.log(miss / (1 - error))
    return information / (shift**2 / 2)


def _first_proof(drawn: Floats, ratio: float, lines: Thresholds, error: float) -> float:
    """Units until SAME is first proved of equal layers, SLOWER of others, with no preparation held unlucky."""
    sign, line, level = (-1, lines.target, lines.miss_error) if ratio == 1 else (1, lines.tolerance, error)
    evidence = log_evidence([sign * drawn.reshape(len(drawn), -1)], np.full(len(drawn), sign * math.log1p(line)))
    return float(np.mean(first_crossing(evidence, level)))


TABLES = {"errors": errors, "campaigns": campaigns, "coverage": coverage, "samples": samples}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=TABLES, action="append")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of comparisons")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.only or TABLES:
        for line in TABLES[name](np.random.default_rng(options.seed), options.scale):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
