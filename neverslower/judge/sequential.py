"""The sequential judge: block by block, valid at every look, robust to spikes and to a few unlucky preparations.

The evidence, for the hypothesis that the log ratio's centre lies at θ or below:

1.  *One unit.* A unit is `block_length` neighbouring blocks; its log ratio x is symmetric about log r given what was
    seen before, for swapping the two sides negates it. Let h be odd, nondecreasing, |h| ≤ 1, and chosen before x is
    seen. Then e = 1 + h(x − θ) is not negative and, given |x − log r|, has mean 1 at θ = log r; it grows with x, so its
    mean is at most 1 wherever log r < θ. With h = tanh(λψ), ψ odd, this is exp(λψ) / cosh(λψ), the e-variable of de la
    Peña (1999, A general class of exponential inequalities for martingales and ratios), which Ramdas, Ruf, Larsson &
    Koolen (2020, Admissible anytime-valid sequential inference must rely on nonnegative martingales, section on
    symmetric distributions) show to be all there is but for h: the sign test is h = κ sign. It is a bet at fair odds
    (Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting) that can lose no more than
    its stake, so a spike costs what any other unit costs. No normality, no variance, no moment is needed.
2.  *One pass.* The product of its units' e-variables is a nonnegative supermartingale from 1: its mean at whatever time
    one stops is at most 1. Call it E.
3.  *Passes.* What a preparation does (where buffers lie) stays with its pass and can't be seen within it. So a pass may
    be *unlucky*, and show whatever it likes, with a chance of at most π, given the passes before it. For any cap C,
    min(E, C) / (1 + π (C − 1)) has mean at most ((1 − π) · 1 + π · C) / (1 + π (C − 1)) = 1 whenever one stops
    (the censored ratio of Huber 1965, A robust version of the probability ratio test, for e-values), and no pass gives
    more than 1/π. With π = 1/2 a pass is worth a factor of 2: the sign test over passes, which preparations that are as
    often for as against can't fool, however large.
4.  *Stopping.* The product M over passes, and any mixture of such products over stakes and caps that were fixed before,
    has mean at most 1 at every stopping time. Stopping when it first reaches 1/α shows P(M ever ≥ 1/α) ≤ α (Ville).
    So M may be looked at after every unit, and what it once proved stays proved.
5.  *The interval.* M falls as θ grows, so the θ at which it has not yet reached 1/α form a half-line, and its end is a
    bound that holds at all looks together, a confidence sequence (Howard, Ramdas, McAuliffe & Sekhon 2021,
    Time-uniform, nonparametric, nonasymptotic confidence sequences). SLOWER and SAME are read off two such bounds.

A campaign of m comparisons proves SLOWER at α = family_error / m: e-Bonferroni. What Wald (1945, Sequential tests of
statistical hypotheses) allows at best is in `bench/simulate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from neverslower.counted import counted
from neverslower.evidence.observation import PairedPass
from neverslower.judge import stats
from neverslower.judge.failure import Failure
from neverslower.judge.stats import Floats
from neverslower.judge.units import units_of
from neverslower.judge.verdict import (
    STANDARD,
    UNPROVED,
    Code,
    Interval,
    Judge,
    Reason,
    ReasonCode,
    Thresholds,
    Verdict,
    bad_samples,
    decide,
    invalid,
    noise_floor,
)

STAKES = ((0.98, 3.0), (0.95, 0.8), (0.9, 0.3))
"""(κ, λ) of the bets h(z) = κ tanh(λz), z in deviations: from nearly the sign test, for effects that tower above the
noise, to nearly linear, for those below it. κ < 1 keeps one contradiction from ending a bet."""
CAPS = (4.0, 40.0)
"""The caps C of one pass's evidence: for many short passes, and for few long ones."""
_MOST_A_UNIT = math.log1p(max(stake for stake, _ in STAKES))
"""What one unit adds to log M at the most."""
HELD_BACK = 0.05
"""The share of M that no pass puts at stake, so that one unlucky pass does not end it: E is 0.95 E + 0.05 there."""
PAST_FOR_A_SCALE = 3
"""Units that must have been seen before their spread is believed; until then a unit counts as one deviation."""
CONFIRMING = 2
"""A confirmation has so many times the blocks of a pass."""


@dataclass(frozen=True)
class Preset:
    """How a sequential comparison is run: passes of `blocks_at_once` blocks, each a fresh preparation, until enough.

    `most_blocks` is the budget of a comparison. `block_length` blocks make a unit, see units.block_length. `unlucky` is
    the share of preparations that may show anything, and `unlucky_error` the chance of a false SLOWER that they may
    cause in one comparison.
    """

    name: str
    blocks_at_once: int
    most_blocks: int
    block_length: int = 2
    unlucky: float = 0.03
    unlucky_error: float = 1e-4

    @property
    def most_passes(self) -> int:
        """Return the number of passes that the budget allows."""
        return self.most_blocks // self.blocks_at_once

    def first_error(self, error: float) -> float:
        """Return the error at which SLOWER is first proved against unlucky passes; a later pass confirms it at `error`.

        That pass can add a factor of nearly 1 / unlucky. A third of it is counted on: what is clear must be confirmed.
        """
        in_reach = error / (3 * self.unlucky) if self.unlucky else self.unlucky_error
        return max(error, min(self.unlucky_error, in_reach))


QUICK = Preset("quick", blocks_at_once=8, most_blocks=64)
STANDARD_PRESET = Preset("standard", blocks_at_once=8, most_blocks=192)
THOROUGH = Preset("thorough", blocks_at_once=8, most_blocks=384, unlucky=0.2, unlucky_error=1e-5)
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (QUICK, STANDARD_PRESET, THOROUGH)})


def log_evidence(
    passes: Sequence[Floats], centre: ArrayLike, unlucky: float = 0.0, scales: Sequence[Floats] | None = None
) -> Floats:
    """Return log M after each unit, against the hypothesis that the centre lies at `centre` or below.

    `passes` are log ratios of units of shape (…, units of the pass), in the order in which they were taken; `centre`
    is of shape (…). The result has the shape (…, all units). For "at `centre` or above", negate both. `scales` are
    those of the units before each unit (`scales_of_the_past`), where they are known already.
    """
    where = np.asarray(centre, dtype=float)[..., None]
    caps = np.log(np.array(CAPS)) if unlucky > 0 else np.array([math.inf])
    costs = np.log1p(unlucky * np.expm1(caps)) if unlucky > 0 else np.zeros(1)
    ends = np.cumsum([units.shape[-1] for units in passes])
    together, scale = (np.concatenate(parts, axis=-1) for parts in (passes, scales or scales_of_the_past(passes)))
    z = _in_deviations(together - where, scale)
    # A stake below 1 keeps every factor above 0, and so its log finite.
    each = np.stack([np.log1p(stake * np.tanh(slope * z)) for stake, slope in STAKES], axis=-1)
    of_passes = [np.cumsum(part, axis=-2) for part in np.split(each, ends[:-1], axis=-2)]
    evidence = np.concatenate(of_passes, axis=-2)[..., None]
    if unlucky > 0:
        evidence = np.logaddexp(math.log1p(-HELD_BACK) + evidence, math.log(HELD_BACK))
    # A pass's evidence is that of its units so far, capped; before it are the passes before, each capped once.
    gained = np.minimum(evidence, caps) - costs  # (…, units, stakes, caps)
    before = np.zeros_like(gained)
    for begin, end in pairwise(ends):
        last = gained[..., begin - 1 : begin, :, :] + before[..., begin - 1 : begin, :, :] if begin else 0.0
        before[..., begin:end, :, :] = last
    # The mean over stakes and caps, in logs: a mixture of supermartingales is one.
    return np.asarray(np.logaddexp.reduce(before + gained, axis=(-2, -1)) - math.log(len(STAKES) * len(caps)))


def _in_deviations(gap: Floats, scale: Floats) -> Floats:
    """Return `gap` over `scale`; ±1 where the scale is not known yet (NaN), infinite where it is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(np.isnan(scale), np.sign(gap), gap / scale)
    return np.where(gap == 0, 0.0, z)


def scales_of_the_past(passes: Sequence[Floats]) -> list[Floats]:
    """Return the deviation of the units before each unit, split like `passes`; NaN while they are too few."""
    together = np.concatenate(passes, axis=-1)
    scales = np.full(together.shape, np.nan)
    steps = _steps(together)
    for t in range(PAST_FOR_A_SCALE, together.shape[-1]):
        scales[..., t] = _deviation(steps[..., : t - 1])  # Those between the units before.
    ends = np.cumsum([units.shape[-1] for units in passes])[:-1]
    return list(np.split(scales, ends, axis=-1))


def _steps(units: Floats) -> Floats:
    """Return the steps from one unit to the next, without their sign."""
    return np.asarray(np.abs(np.diff(units, axis=-1)))


def _deviation(steps: Floats) -> Floats:
    """Return the standard deviation that normal units with these steps would have.

    Steps from one unit to the next leave out drift and, but for the first step of each pass, the pass's own effect.
    """
    return np.asarray(_median(steps) / (stats.normal_quantile(0.75) * math.sqrt(2)))


def _median(values: Floats) -> Floats:
    """Return the median along the last axis."""
    if values.ndim > 1:
        return np.asarray(np.median(values, axis=-1))
    # Of the few steps of one comparison this takes a tenth of the time that numpy's own does.
    ordered, middle = np.sort(values), len(values) // 2
    return np.asarray(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


@dataclass(frozen=True)
class SequentialJudge:
    """Judges all passes so far; may be asked after every pass, and may decide when to stop (see the module).

    Passes are fresh preparations in the order in which they were taken. SLOWER is proved twice: by all units at
    family_error / comparisons as if no preparation were unlucky, and at the preset's `first_error` with its share of
    unlucky ones. SAME and FASTER are proved at `miss_error` with that share. What is proved stays proved.
    """

    thresholds: Thresholds = STANDARD
    preset: Preset = STANDARD_PRESET

    @property
    def most_passes(self) -> int:
        """Return the number of passes that the budget allows."""
        return self.preset.most_passes

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """Return the verdict on all passes so far."""
        if verdict := invalid(passes, self.thresholds.most_discarded):
            return verdict
        units = self._units(passes)
        error = self._error(comparisons)
        low, high = self._lower(units, error), self._upper(units)
        noise, provable = self.limits(passes, comparisons)
        if math.isinf(low) and math.isinf(high):
            taken = sum(len(pass_.seconds) for pass_ in passes)
            seen, needed = (counted(n, "pass", "passes") for n in (len(units), self.fewest_passes(comparisons)))
            text = f"nothing is proved by {counted(taken, 'block')} in {seen}; it takes {needed}"
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text), noise_floor=noise, mde=provable)
        low, high = min(low, high), max(low, high)  # Both at odds: the ratio moved. Nothing between them is excluded.
        estimate = min(max(_centre(units), low), high)
        ratio = Interval(math.exp(estimate), max(math.exp(low), 1 / UNPROVED), _bounded(high))
        code, reason = decide(ratio, self.thresholds)
        return Verdict(code, reason, ratio, noise, provable)

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        """Return (noise floor, smallest slowdown that could be proved) of passes that can be judged."""
        if bad_samples(passes, self.thresholds.most_discarded):
            return None, None
        error = self._error(comparisons)
        return noise_floor(passes, error), self._mde(self._units(passes), error)

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        """Return whether more blocks would not change the verdict, or the budget is spent.

        A SLOWER whose estimate lies below the target goes on: it may be proved SAME as well, which comes first.
        """
        taken = sum(len(pass_.seconds) + pass_.discarded for pass_ in passes)
        if taken + self.preset.blocks_at_once > self.preset.most_blocks:
            return True
        if not any(len(pass_.seconds) for pass_ in passes):
            return False
        if bad_samples(passes, 1.0):  # A sample that is no time: more of them make it no better.
            return True
        if bad_samples(passes, self.thresholds.most_discarded):
            return False  # The device was disturbed, and may be so no longer.
        units = self._units(passes)
        if self._not_slower(units):
            return True
        return self._slower(units, self._error(comparisons)) and _centre(units) >= math.log1p(self.thresholds.target)

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        """Return the verdict on a SLOWER after a later pass in a fresh process; it is red only if it is SLOWER still.

        Unlucky passes are allowed for at family_error / comparisons too, so that the campaign's one number covers them,
        and the later pass must lie beyond the tolerance by itself: what was proved before can't speak for it.
        """
        if problem := bad_samples([later], self.thresholds.most_discarded):
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.NOT_CONFIRMED, f"not confirmed: {problem}"))
        verdict = replace(self, preset=replace(self.preset, unlucky_error=0.0))([*passes, later], comparisons)
        # By itself, for the proof rests on all passes together and could survive a later one that shows nothing.
        shown = math.exp(_centre(self._units([later])))
        if verdict.code is Code.SLOWER and shown > 1 + self.thresholds.tolerance:
            return replace(verdict, reason=Reason(ReasonCode.PROVED, f"confirmed in a fresh process ({shown:.3f}×)"))
        if verdict.code in (Code.SAME, Code.FASTER):
            return verdict
        reason = Reason(ReasonCode.NOT_CONFIRMED, f"a fresh process did not confirm ({shown:.3f}×)")
        return replace(verdict, code=Code.UNDECIDED, reason=reason)

    def fewest_passes(self, comparisons: int) -> int:
        """Return the number of passes from which on SLOWER and SAME can both be proved."""
        return _fewest_passes(self._error(comparisons), self.thresholds.miss_error, self.preset)

    def _error(self, comparisons: int) -> float:
        return self.thresholds.family_error / max(1, comparisons)

    def _units(self, passes: Sequence[PairedPass]) -> list[Floats]:
        return [units_of(pass_.seconds, self.preset.block_length) for pass_ in passes]

    def _slower(self, units: Sequence[Floats], error: float) -> bool:
        return self._lower(units, error, math.log1p(self.thresholds.tolerance)) > -math.inf

    def _not_slower(self, units: Sequence[Floats]) -> bool:
        return self._upper(units, math.log1p(self.thresholds.target)) < math.inf

    def _lower(self, units: Sequence[Floats], error: float, only: float | None = None) -> float:
        """Return the bound above which the log ratio is proved to lie, −∞ if none.

        `only` asks about one place, which is returned if it is proved.
        """
        # Both proofs are needed, so the weaker one counts.
        alone = _bound(units, 0.0, error, only)
        return min(alone, _bound(units, self.preset.unlucky, self.preset.first_error(error), only))

    def _upper(self, units: Sequence[Floats], only: float | None = None) -> float:
        """Return the bound below which the log ratio is proved to lie, ∞ if none; `only` as in `_lower`."""
        place = None if only is None else -only
        return -_bound(_negated(units), self.preset.unlucky, self.thresholds.miss_error, place)

    def _mde(self, units: Sequence[Floats], error: float) -> float | None:
        """Return the slowdown that, with this noise, is proved about every second time at the budget.

        None where no slowdown can be proved.
        """
        shift = _detectable(error, self.preset)
        together = np.concatenate(units)
        if shift is None or len(together) < PAST_FOR_A_SCALE:
            return None
        return (1 + self.thresholds.tolerance) * math.exp(shift * float(_deviation(_steps(together)))) - 1


def _bounded(log_ratio: float) -> float:
    """Return the ratio with this logarithm, at most UNPROVED."""
    return math.exp(min(log_ratio, math.log(UNPROVED)))


def _negated(units: Sequence[Floats]) -> list[Floats]:
    return [-pass_units for pass_units in units]


def _centre(units: Sequence[Floats]) -> float:
    """Return the Hodges–Lehmann centre of all units; 0 if there are none."""
    together = np.concatenate(units) if units else np.empty(0)
    return float(np.median(stats.walsh_averages(together))) if len(together) else 0.0


def _bound(units: Sequence[Floats], unlucky: float, error: float, only: float | None) -> float:
    """Return the largest place that the log ratio is proved to lie above, −∞ if none.

    Given `only`, return it if it is proved, else −∞; that takes one evaluation instead of a search.
    """
    together = np.concatenate(units) if units else np.empty(0)
    # However clear its units are, so few prove nothing.
    if not len(together) or len(together) * _MOST_A_UNIT < -math.log(error):
        return -math.inf

    scales = scales_of_the_past(units)  # Wherever the centre is thought to be, steps between units stay the same.

    def proved(places: Floats) -> np.ndarray:
        return np.asarray(log_evidence(units, places, unlucky, scales).max(axis=-1) >= -math.log(error))

    if only is not None:
        return only if proved(np.array([only]))[0] else -math.inf
    # Far below every unit z is as large as it gets: what is not proved there is not proved anywhere.
    low, high = float(together.min()) - 40 * max(float(np.ptp(together)), 1e-9), float(together.max())
    if not proved(np.array([low]))[0]:
        return -math.inf
    # Places are proved up to the bound and not beyond, so each step keeps the interval in which that changes. Asking of
    # 17 places at once costs little more than of one, since they are rows of one array.
    while high - low > 1e-6:
        places = np.linspace(low, high, 18)
        last = int(np.flatnonzero(proved(places[:-1]))[-1])
        low, high = float(places[last]), float(places[last + 1])
    return low


def _units_at_once(preset: Preset) -> int:
    return max(1, preset.blocks_at_once // preset.block_length)


def _proved(units: Sequence[Floats], error: float, preset: Preset) -> bool:
    """Return whether the log ratio is proved to lie above 0, both by all units and with unlucky passes among them."""
    guarded = _bound(units, preset.unlucky, preset.first_error(error), 0.0)
    return guarded > -math.inf and _bound(units, 0.0, error, 0.0) > -math.inf


@lru_cache(maxsize=64)
def _fewest_passes(error: float, miss_error: float, preset: Preset) -> int:
    """Return after how many passes units far above the noise prove both; all that the budget allows if none do."""
    clear = 1e3 + np.arange(float(_units_at_once(preset)))
    for count in range(1, preset.most_passes):
        units = [clear] * count
        if _proved(units, error, preset) and _bound(units, preset.unlucky, miss_error, 0.0) > -math.inf:
            return count
    return preset.most_passes


@lru_cache(maxsize=64)
def _detectable(error: float, preset: Preset) -> float | None:
    """Return the gap, in deviations of a unit, that the budget proves SLOWER about every second time, or None.

    It is taken from units at the normal distribution's quantiles, in an order that scatters them evenly over passes.
    """
    passes, each = preset.most_passes, _units_at_once(preset)
    # Multiples of the golden ratio fill the unit interval evenly, in any stretch.
    place = (np.arange(1, passes * each + 1) * (math.sqrt(5) - 1) / 2) % 1
    noise = np.array([stats.normal_quantile(float(quantile)) for quantile in place]).reshape(passes, each)

    def proved(shift: float) -> bool:
        return _proved([pass_noise + shift for pass_noise in noise], error, preset)

    low, high = 0.0, 64.0  # Deviations; what 64 of them do not prove, the number of units forbids.
    if not proved(high):
        return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if proved(middle) else (middle, high)
    return high


def until_enough(
    judge: Judge, comparisons: int, take: Callable[[int], PairedPass | Failure]
) -> list[PairedPass] | Failure:
    """Return the passes that `take` gives, by their numbers, until the judge has seen enough; or the failure of one."""
    passes: list[PairedPass] = []
    while not judge.enough(passes, comparisons) and len(passes) < judge.most_passes:
        found = take(len(passes))
        if isinstance(found, Failure):
            return found
        passes.append(found)
    return passes
