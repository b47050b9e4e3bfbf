"""The pooled judge: sizes proved in two or three processes, by what all layers of a campaign scatter by.

A process prepares a layer's arms anew and measures each as one log ratio to the reference that they share:
x = θ + e, where θ is the pair's long-run log ratio, the *median* over preparations, and e is what this preparation
did. The sequential judge asks how often x lies beyond a line, this one by how much, and learns from the whole campaign
how much is much. A bound of θ is drawn from what a process may do, in three ways; the widest counts.

1.  *Ranks: what a process does to any layer.* The difference d of two processes of one comparison does not depend on θ,
    and it is at least as likely to be large as e is: if e ≥ t, the other process lies at or below its median with a
    chance of 1/2, and then d ≥ t; with either of the two as the first, P(|d| ≥ t) ≥ P(e ≥ t) − P(e ≥ t)². (Weak
    symmetrization: Loève 1977, Probability Theory I, section 18.1.) Neither symmetry nor one mode is needed. The same
    holds of the largest e among a layer's arms against D, the largest |d| among them, whatever ties the arms together:
    they share a reference, so **the layer is the unit**, never the comparison. Let D of N other layers be known, and
    let k of them reach t. If layers are alike, the effects of n processes on this layer and the N values have any order
    with the same chance, so that all n reach what at most k of the N reach has a chance of at most
    C(k+n, n) / C(N+n, n); at least s of n: see ranks.chance. (Conformal prediction: Vovk, Gammerman & Shafer 2005,
    Algorithmic Learning in a Random World, chapter 2. The count is that of the precedence test: Nelson 1963,
    Technometrics 5(4).) No tail is fitted: one process needs to be known to its 2 or 20 %, and its power does the rest.
    *Beyond the largest D* the tail is taken to fall at least as fast as Cauchy's: Q(gt) ≤ Q(t) / g, so the chance falls
    by g⁻ˢ. A layer of J arms that is compared with layers of J' has up to J / J' times their chance (a union bound).
2.  *Scale: what a process does to this layer.* Layers are not alike; one that is ten times noisier would pass by the
    ranks of calm ones. So the layer's own variance counts too, over all of its arms and processes; arms that share a
    reference correlate by about 1/2, which is their design effect, and the comparison's own variance joins it. The gap
    must be what Student's t allows, twice: with that variance alone, for a layer may be noisier than any other leads
    one to expect, and moderated by those of all layers (Smyth 2004; see `change`), for it may look calm by luck. The
    ranks let through k + 1 layers or so that are unlike, so the layer's error is spent k + 1 times.
3.  *Own: what processes did to this comparison.* An arm may be noisier than its layer. The gap must be so many times
    the range of its own processes (`CLEAR`): a gap to be believed is larger than what it is measured with. It is a
    guard without a derivation, and it costs clear cases nothing.

Each number of processes n and of agreeing ones s has its share of the error (`share`), all together at most 1, so the
bounds hold at all looks at once, and what is proved stays proved once every comparison has its first two processes.
SLOWER is drawn at family_error · J / comparisons for a layer of J arms: any false SLOWER in the run has at most
family_error. SAME and FASTER are drawn at miss_error for one comparison, so each arm's |d| counts there, and each layer
counts once.

What it rests on, besides: processes are *independent*. What those that start together have in common is in none of
their differences, and a judge that does not know of it is wrong in nearly every simulated campaign with such effects.
So a caller may declare which started together, and they count as one (`Processes.starts`); a run starts no two of them
at one moment instead (worker.holder), for what two processes of a run have in common was found to be nothing on an
H200. A ratio that trends over the campaign is told only by processes far apart in time. Layers must be
drawn like each other, or like the stored ones. Where fewer than `FEWEST` other layers are known, nothing is proved, and
the sequential judge decides; so it does below 1.1 where layers are noisy, and where scatter has Cauchy's tails. The
product over processes is exact for layers that are alike; where they are not, 2 and 3 hold it, and simulation shows how
far: see `bench.campaigns`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neverslower.counted import counted
from neverslower.judge.change import Variance, typical_variance
from neverslower.judge.ranks import order, share_of_values
from neverslower.judge.stats import Floats
from neverslower.judge.verdict import (
    STANDARD,
    UNPROVED,
    Code,
    Interval,
    Reason,
    ReasonCode,
    Thresholds,
    Verdict,
    decide,
)

Counts = NDArray[np.intp]

FEWEST = 10
"""Other layers that must be known before the largest of them says anything about the tail."""
FLOOR = 5e-4
"""No two processes are taken to differ by less: clocks tick, and a scripted library knows no noise."""
SHARED = 0.5
"""How arms correlate that share a reference as noisy as they are; 0.31 to 0.62 on an H200."""
CLEAR = {2: 6.0, 3: 2.5, 4: 1.5}
"""How many times the range of the agreeing processes the gap must be, by their number; `CLEAR_LATER` from 5 on."""
CLEAR_LATER = 1.0
FIRST_SHARES = {2: 0.2, 3: 0.45}
"""The shares of the error that the first numbers of processes have; the rest falls by a quarter each."""
AGREEING = 0.7
"""The least share of the processes that must agree."""
MOST_FREEDOM = 200.0
"""Degrees of freedom of what is typical, at most: of layers that are all alike it would be infinite."""


@dataclass(frozen=True)
class Processes:
    """What the processes of a campaign measured so far.

    `log_ratios` has the shape (comparisons, processes), in the order of measuring, NaN where a process did not measure
    a comparison. `layers` names each comparison's layer. `starts` names for each process those it was started with;
    by default each was started by itself. Raises ValueError if the lengths differ or a ratio is infinite.
    """

    log_ratios: Floats
    layers: Sequence[Hashable]
    starts: Sequence[Hashable] = ()

    def __post_init__(self) -> None:
        count, processes = self.log_ratios.shape
        if len(self.layers) != count or (self.starts and len(self.starts) != processes):
            raise ValueError("as many layers as comparisons are needed, and as many starts as processes")
        if np.any(np.isinf(self.log_ratios)):
            raise ValueError("a log ratio is infinite")

    @cached_property
    def replicates(self) -> Floats:
        """Log ratios of shape (comparisons, starts): the mean of those that started together, each row's NaN last."""
        starts = list(self.starts) or list(range(self.log_ratios.shape[1]))
        columns = [self.log_ratios[:, [other == start for other in starts]] for start in dict.fromkeys(starts)]
        together = np.stack([_mean(column) for column in columns], axis=1) if columns else self.log_ratios
        order = np.argsort(np.isnan(together), axis=1, kind="stable")
        return np.asarray(np.take_along_axis(together, order, axis=1))

    @cached_property
    def taken(self) -> Counts:
        """How many replicates each comparison has."""
        return np.asarray(np.sum(~np.isnan(self.replicates), axis=1))

    @cached_property
    def layer_of(self) -> Counts:
        """The number of each comparison's layer, counted as they first appear."""
        numbers = {layer: number for number, layer in enumerate(dict.fromkeys(self.layers))}
        return np.array([numbers[layer] for layer in self.layers], dtype=np.intp)

    @cached_property
    def differences(self) -> Floats:
        """|d| of each comparison's first two replicates, NaN of fewer. Later ones are asked for by what these said."""
        if self.replicates.shape[1] < 2:
            return np.full(len(self.layers), np.nan)
        return np.maximum(np.abs(self.replicates[:, 0] - self.replicates[:, 1]), FLOOR)


@dataclass(frozen=True)
class Scatter:
    """Stored scatter of a device: |d| of two processes, arm by arm, of each layer of an earlier run.

    `origin` names it for the verdict's text. It must stem from an equal fingerprint and library version.
    """

    origin: str
    layers: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, processes: Processes, origin: str) -> Scatter:
        """Return a run's scatter, to be stored."""
        known = ~np.isnan(processes.differences)
        numbers = processes.layer_of[known]
        by_layer = (processes.differences[known][numbers == number] for number in np.unique(numbers))
        return cls(origin, tuple(tuple(map(float, differences)) for differences in by_layer))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scatter:
        """Read what `dataclasses.asdict` made. Raises ValueError, KeyError or TypeError for anything else."""
        origin, layers = stored["origin"], tuple(tuple(layer) for layer in stored["layers"])
        if not (isinstance(origin, str) and origin.isprintable()):
            raise ValueError(f"origin is {reprlib.repr(origin)}")
        differences = [difference for layer in layers for difference in layer]
        if not all(isinstance(difference, float) and math.isfinite(difference) for difference in differences):
            raise ValueError("a difference is no finite number")
        return cls(origin, layers)

    def widened(self, processes: Processes) -> float:
        """Return the factor, at least 1, by which this run's own differences say that the stored ones are too small.

        The run's largest D is held against what so many stored layers reach once in twenty times, and, of five layers
        or more, the median against the median.
        """
        own = _largest(processes.differences, processes.layer_of)
        own = own[~np.isnan(own)]
        stored = np.array([max(differences) for differences in self.layers if differences])
        if not len(own) or not len(stored):
            return 1.0
        usual = float(np.quantile(stored, 0.95 ** (1 / len(own))))
        factors = [1.0, float(own.max()) / usual]
        if len(own) >= 5:
            factors.append(float(np.median(own)) / float(np.median(stored)))
        return max(factors)


@dataclass(frozen=True)
class Bounds:
    """Bounds of each comparison's log ratio, and its estimate; infinite where nothing is proved."""

    low: Floats
    estimate: Floats
    high: Floats


@dataclass(frozen=True)
class PooledJudge:
    """Judges all comparisons of a campaign at once; may be asked after every process (see the module).

    `thresholds.family_error` and `.miss_error` are this judge's shares, where others judge the same comparisons.
    """

    thresholds: Thresholds = STANDARD

    def __call__(self, processes: Processes, comparisons: int, stored: Scatter | None = None) -> list[Verdict]:
        """Return a verdict for each comparison, UNDECIDED where more processes or another judge must say.

        `comparisons` is how many the campaign makes in all, measured or not.
        """
        bounds = self.bounds(processes, comparisons, stored)
        rows = zip(bounds.low, bounds.estimate, bounds.high, processes.taken, strict=True)
        basis = _basis(processes, stored)
        return [self._verdict(float(low), float(mid), float(high), int(n), basis) for low, mid, high, n in rows]

    def bounds(self, processes: Processes, comparisons: int, stored: Scatter | None = None) -> Bounds:
        """Return the bounds that the verdicts are read off: `low` at the level of a SLOWER, `high` of a SAME."""
        unknown = np.full(len(processes.layers), math.inf)
        nothing = Bounds(-unknown, _median(processes.replicates), unknown)
        return [nothing, *self.looks(processes, comparisons, stored)][-1]

    def looks(self, processes: Processes, comparisons: int, stored: Scatter | None = None) -> Iterator[Bounds]:
        """Yield the bounds after two replicates, three, and so on to all; each holds what was proved before."""
        x = processes.replicates
        low, high = np.full(len(x), -math.inf), np.full(len(x), math.inf)
        pool = _Pool(processes, stored)
        if pool.layers <= FEWEST:
            return
        for n in range(2, x.shape[1] + 1):
            rows = np.flatnonzero(processes.taken >= n)
            low[rows] = np.maximum(low[rows], self._low(x[rows, :n], rows, pool, comparisons))
            high[rows] = np.minimum(high[rows], self._high(x[rows, :n], rows, pool))
            yield Bounds(low.copy(), _median(x[:, :n]), high.copy())

    def _low(self, x: Floats, rows: Counts, pool: _Pool, comparisons: int) -> Floats:
        """Return the bounds that n processes prove of the comparisons `rows`, x being (rows, n)."""
        n = x.shape[1]
        ordered = np.sort(x, axis=1)
        best = np.full(len(x), -math.inf)
        for agreeing in range(n, 1, -1):
            part = self.thresholds.family_error * share(n, agreeing)
            if not part:
                break
            gap, reached = pool.layer_gap(n, agreeing, part / max(1, comparisons), rows)
            spent = part / ((reached + 1) * pool.arms[pool.layer_of[rows]])
            gap = np.maximum(gap, pool.scale_gap(n, spent, rows))
            own = ordered[:, -1] - ordered[:, n - agreeing]
            gap = np.maximum(gap, CLEAR.get(n, CLEAR_LATER) * own)
            best = np.maximum(best, ordered[:, n - agreeing] - gap)
        return best

    def _high(self, x: Floats, rows: Counts, pool: _Pool) -> Floats:
        """Return the bounds from above, of single comparisons."""
        n = x.shape[1]
        ordered = np.sort(x, axis=1)
        best = np.full(len(x), math.inf)
        for agreeing in range(n, 1, -1):
            part = self.thresholds.miss_error * share(n, agreeing)
            if not part:
                break
            gap = np.maximum(pool.arm_gap(n, agreeing, part), pool.scale_gap(n, np.full(len(x), part), rows))
            best = np.minimum(best, ordered[:, agreeing - 1] + gap)
        return best

    def _verdict(self, low: float, estimate: float, high: float, taken: int, basis: str) -> Verdict:
        if math.isinf(low) and math.isinf(high):
            text = f"nothing is proved by {counted(taken, 'process', 'processes')} and {basis}"
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))
        low, high = min(low, high), max(low, high)  # Both at odds: the ratio moved. Nothing between them is excluded.
        estimate = min(max(estimate, low), high)
        ratio = Interval(math.exp(estimate), max(math.exp(low), 1 / UNPROVED), min(math.exp(high), UNPROVED))
        code, reason = decide(ratio, self.thresholds)
        text = f"{reason.text}, in {counted(taken, 'process', 'processes')}, by {basis}"
        return Verdict(code, Reason(reason.code, text), ratio)


class _Pool:
    """What a run and the stored scatter know of preparations: |d| of arms and layers, variances of layers."""

    def __init__(self, processes: Processes, stored: Scatter | None) -> None:
        self.processes = processes
        self.layer_of = processes.layer_of
        own_layers = int(self.layer_of.max(initial=-1)) + 1
        self.arms = np.bincount(self.layer_of, minlength=own_layers)
        factor = stored.widened(processes) if stored else 1.0
        self.stored = [np.array(layer) * factor for layer in stored.layers if layer] if stored else []
        known = ~np.isnan(processes.differences)
        self._differences = np.concatenate([processes.differences[known], *self.stored])
        of_stored = [np.full(len(layer), own_layers + number) for number, layer in enumerate(self.stored)]
        self._layers = np.concatenate([self.layer_of[known], *of_stored]).astype(np.intp)
        self._known_arms = np.bincount(self._layers, minlength=own_layers + len(self.stored))
        self._largest = _largest(self._differences, self._layers, len(self._known_arms))
        self._descending = -np.sort(-self._largest[self._known_arms > 0])
        self.layers = len(self._descending)
        self._scales: dict[int, tuple[tuple[Floats, Floats], tuple[Floats, Floats]]] = {}

    def layer_gap(self, n: int, agreeing: int, error: float, rows: Counts) -> tuple[Floats, Floats]:
        """Return what `agreeing` of n processes must exceed, for `rows`, and how many other layers reach it.

        `error` is that of one comparison; a layer has it once for each of its arms.
        """
        gaps, reached = np.full(len(self.arms), math.inf), np.zeros(len(self.arms))
        known = self._known_arms > 0
        for arms in np.unique(self.arms):
            # A layer of fewer arms has less chances to reach far, by their share at most.
            alike = np.where(known, np.minimum(1.0, self._known_arms / arms), 0.0)
            for itself in (False, True):  # Whether the layer is among the known ones, and must be left out.
                layers = np.flatnonzero((self.arms == arms) & (known[: len(self.arms)] == itself))
                others = self.layers - itself
                if not len(layers) or others < FEWEST:
                    continue
                likeness = (float(alike.sum()) - alike[layers] * itself) / others
                level = error * arms * float(likeness.min()) ** agreeing
                place, factor = order(n, agreeing, others, level)
                limit = self._descending[place]
                below = self._descending[min(place + 1, self.layers - 1)]
                ahead = itself & (self._largest[layers] >= limit)
                gaps[layers] = np.where(ahead, below, limit) * factor
                reached[layers] = place
        return gaps[self.layer_of[rows]], reached[self.layer_of[rows]]

    def arm_gap(self, n: int, agreeing: int, error: float) -> float:
        """Return what `agreeing` of n processes of any one comparison exceed with a chance of `error` at most."""
        descending = np.argsort(-self._differences)
        weights = 1 / self._known_arms[self._layers[descending]]
        place, factor = share_of_values(n, agreeing, self.layers - 1, error)
        index = int(np.searchsorted(np.cumsum(weights), place, side="right"))
        return factor * (float(self._differences[descending[index]]) if index < len(descending) else FLOOR)

    def scale_gap(self, n: int, errors: Floats, rows: Counts) -> Floats:
        """Return how far n processes' centre may stray by chance, for `rows`, each at its error: the wider of two.

        One draws the layer's variance towards what is typical, for a layer may look calm by luck. The other leaves it
        alone, for a layer may be noisier than the rest lead one to expect.
        """
        if n not in self._scales:
            self._scales[n] = self._variances(n)
        gaps = (
            _student(1 - errors, freedom[rows]) * np.sqrt(np.maximum(value[rows], FLOOR**2) / n)
            for value, freedom in self._scales[n]
        )
        return np.asarray(np.maximum(*gaps))

    def _variances(self, n: int) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Return each comparison's variance with its degrees of freedom after n processes: moderated, and alone."""
        own, freedom = self._own_variances(n)
        count = len(self.arms)
        all_freedom = np.bincount(self.layer_of, freedom, count)
        value = np.bincount(self.layer_of, own * freedom, count) / np.maximum(all_freedom, 1)
        layer_freedom = all_freedom / _design_effect(np.bincount(self.layer_of, freedom > 0, count))
        typical = self._typical(value, layer_freedom)
        alone = layer_freedom[self.layer_of] + freedom
        total = layer_freedom[self.layer_of] * value[self.layer_of] + freedom * own
        moderated = alone + typical.freedom
        by_all = (total + typical.freedom * typical.value) / np.maximum(moderated, 1e-9)
        return (by_all, moderated), (total / np.maximum(alone, 1e-9), alone)

    def _own_variances(self, n: int) -> tuple[Floats, Floats]:
        """Return each comparison's variance over its first n replicates, and its degrees of freedom."""
        x = self.processes.replicates[:, :n]
        taken = np.sum(~np.isnan(x), axis=1)
        centred = np.where(np.isnan(x), 0.0, x - _mean(x)[:, None])
        freedom = np.maximum(taken - 1, 0).astype(float)
        return np.sum(centred**2, axis=1) / np.maximum(freedom, 1), freedom

    def _typical(self, value: Floats, freedom: Floats) -> Variance:
        """Return what is typical of a layer's variance, by this run's layers and the stored ones."""
        least = FLOOR**2
        pairs = [(float(one), float(its)) for one, its in zip(value, freedom, strict=True) if its > 0]
        pairs += [(float(np.mean(one**2) / 2), len(one) / float(_design_effect(len(one)))) for one in self.stored]
        prior = typical_variance([Variance(max(one, least), its) for one, its in pairs])
        return Variance(prior.value, min(prior.freedom, MOST_FREEDOM))


def rank_gaps(processes: Processes, n: int, error: float) -> Floats:
    """Return by how much all of n processes of each comparison must exceed a line, by the ranks of the layers alone.

    `error` is that of one comparison; infinite where fewer than `FEWEST` other layers are known.
    """
    rows = np.arange(len(processes.layers))
    return _Pool(processes, None).layer_gap(n, n, error, rows)[0]


def share(n: int, agreeing: int) -> float:
    """Return the share of the error that is spent where `agreeing` of n processes say so; all sum to 1."""
    least = max(2, math.ceil(AGREEING * n))
    if n < 2 or not least <= agreeing <= n:
        return 0.0
    left = 1 - sum(FIRST_SHARES.values())
    first = 1 + max(FIRST_SHARES)
    return FIRST_SHARES.get(n, left / 4 * 0.75 ** (n - first)) / (n - least + 1)


def _student(probability: Floats, freedom: Floats) -> Floats:
    """Return Student's quantiles, of each pair once: rows of a layer share theirs, and the quantile is slow."""
    from scipy.special import stdtrit  # scipy.stats would take seconds to import

    pairs, of = np.unique(probability + 1j * freedom, return_inverse=True)
    return np.asarray(stdtrit(pairs.imag, pairs.real))[of]


def _design_effect(arms: ArrayLike) -> Floats:
    """Return how many arms of a layer tell as much of its variance as one alone would."""
    return np.asarray(1 + (np.maximum(arms, 1) - 1) * SHARED, dtype=float)


def _largest(differences: Floats, layers: Counts, count: int = 0) -> Floats:
    """Return D of each layer, NaN where no difference is known."""
    found = np.full(max(count, int(layers.max(initial=-1)) + 1), -math.inf)
    known = ~np.isnan(differences)
    np.maximum.at(found, layers[known], differences[known])
    return np.where(np.isinf(found), np.nan, found)


def _mean(x: Floats) -> Floats:
    """Return the mean of each row without its NaN, NaN of none."""
    known = ~np.isnan(x)
    total = np.sum(np.where(known, x, 0.0), axis=1)
    return np.asarray(np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan))


def _median(x: Floats) -> Floats:
    """Return the median of each row without its NaN, NaN of none."""
    found = np.full(len(x), np.nan)
    some = ~np.isnan(x).all(axis=1)
    found[some] = np.nanmedian(x[some], axis=1)
    return found


def _basis(processes: Processes, stored: Scatter | None) -> str:
    """Return whose scatter the verdicts rest on, in words."""
    own = np.unique(processes.layer_of[~np.isnan(processes.differences)])
    text = f"the scatter of {counted(len(own), 'layer')}"
    if stored is None:
        return text
    factor = stored.widened(processes)
    wider = f" widened {factor:.2f} times, as this run's own ask for" if factor > 1 else ""
    return f"{text} and of {len(stored.layers)} stored ones ({stored.origin}){wider}"
