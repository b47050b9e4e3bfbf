"""Judges old against new in pairs of processes, and decides what is clear before all pairs are taken.

The number of pairs is planned from how far the first ones scatter, so that a change by the target can be proved
(`change.pairs_needed`). Most comparisons do not need so many: nothing changed at all, or very much did. So all of them
are looked at after each number of pairs n from `FEWEST_PAIRS` on, and each look has its share of the errors.

1.  *Errors add up.* The look at n pairs has `EARLY_SLOWER` · 2^−(n − 2) of the family's error and `EARLY_SAME` ·
    2^−(n − 2) of the miss error, the verdict on all pairs has what is left, and together they are at most the whole
    (Bonferroni), whoever stops when. A false SLOWER costs the more and a near one must still be found at the end, so
    the looks have a smaller share of that error.
2.  *Not slower, and not faster either.* At a look SAME must be proved in both directions, each with the miss error of
    the look: what is proved not to be slower may still turn out to be faster, which more pairs would show.
3.  *Slower beyond what any layer does.* Student's t takes a comparison's own scatter to be normal, and few pairs can't
    show that it is not: an arm that is unlucky in three pairs of three looks calm. So at a look all n pairs must also
    lie so far beyond the line as the effects of no other layer would do by chance, whatever their distribution: the
    ranks of `pooled` (1), at the same error, with the layer as the unit, for its arms have a reference and a process in
    common. What the pairs do to all layers alike is in no difference of a layer's pairs. It is taken out of them, and
    the half-width of its mean is added to the gap. Both proofs are demanded, so either one's assumptions are enough.
4.  *Those that go on.* The common part is estimated from the comparisons that have n pairs, while they are `ENOUGH`;
    later it keeps its degrees of freedom, and what pairs have in common then counts as scatter of each one's own. What
    is typical of a comparison's own scatter is learnt from all, with those that ended before.

`python -m bench.upgrade` prints what this saves, and its false alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from neverslower.judge.change import PassSpread, Variance, common_effects, judge_pairs
from neverslower.judge.pooled import Processes, rank_gaps
from neverslower.judge.stats import Floats
from neverslower.judge.verdict import STANDARD, Code, Reason, Thresholds, Verdict

K = TypeVar("K", bound=Hashable)
Pairs = Mapping[K, Sequence[float]]
"""The new − old log level of each pair of processes, by comparison, in the order in which they were taken."""

FEWEST_PAIRS = 3
"""Pairs without which nothing is planned and nothing decided early: two have a single degree of freedom."""
EARLY_SLOWER, EARLY_SAME = 0.2, 0.25
"""The shares of the family's error and of the miss error that all looks before the last have together."""
UNPAIRED = judge_pairs([], PassSpread(), None, 1)
"""The verdict on what has no pair of processes."""
_FIRST = (Code.FASTER, Code.SAME, Code.SLOWER, Code.UNDECIDED)
ENOUGH = 10
"""The comparisons by which what a pair does to all of them is told from what it does to each."""


@dataclass(frozen=True)
class _Look:
    """What the first n pairs show: levels by comparison, of shape (n,), their spread, and what is common to a pair."""

    taken: dict[Hashable, Floats]
    spread: PassSpread
    effects: Floats


def judge_all(
    pairs: Pairs[K], layer_of: Callable[[K], Hashable], thresholds: Thresholds = STANDARD
) -> dict[K, Verdict]:
    """Return the verdict on each comparison: what all its pairs prove, or what was clear at a look before.

    FASTER comes before SAME, and SAME before SLOWER, as they do within a judge.
    """
    looks = list(_looks(pairs))
    early = {key: verdict for key, (_, verdict) in _decided(looks, pairs, layer_of, thresholds).items()}
    last = at_the_end(thresholds)

    def judged(key: K, levels: Sequence[float]) -> Verdict:
        spread = looks[max(2, len(levels)) - 2].spread if looks else PassSpread()
        by_all = judge_pairs(levels, spread, key, len(pairs), last)
        return min(by_all, early.get(key, by_all), key=lambda verdict: _FIRST.index(verdict.code))

    return {key: judged(key, levels) for key, levels in pairs.items()}


def decided_early(
    pairs: Pairs[K], layer_of: Callable[[K], Hashable], thresholds: Thresholds = STANDARD
) -> dict[K, int]:
    """Return the comparisons that need no more pairs, with the number of pairs that decided them."""
    decided = _decided(list(_looks(pairs)), pairs, layer_of, thresholds)
    return {key: n for key, (n, _) in decided.items()}


def at_the_end(thresholds: Thresholds) -> Thresholds:
    """Return the thresholds of the verdict on all pairs: with the errors that the looks before have left."""
    return _sharing(thresholds, 1 - EARLY_SLOWER, 1 - EARLY_SAME)


def _at_look(thresholds: Thresholds, pairs: int) -> Thresholds:
    part = 0.5 ** (pairs - FEWEST_PAIRS + 1)
    return _sharing(thresholds, EARLY_SLOWER * part, EARLY_SAME * part)


def _sharing(thresholds: Thresholds, slower: float, same: float) -> Thresholds:
    errors = {"family_error": slower * thresholds.family_error, "miss_error": same * thresholds.miss_error}
    return replace(thresholds, **errors)


def _looks(pairs: Pairs[K]) -> Iterator[_Look]:
    """Yield what the first two pairs show, the first three, and so on: of the comparisons that have so many."""
    own: dict[object, Variance] = {}
    enough = min(ENOUGH, sum(len(levels) > 1 for levels in pairs.values()))
    common, effects = Variance(), np.empty(0)
    for n in range(2, max(map(len, pairs.values()), default=0) + 1):
        taken: dict[Hashable, Floats] = {
            key: np.asarray(levels[:n], dtype=float) for key, levels in pairs.items() if len(levels) >= n
        }
        if len(taken) >= enough:
            spread = PassSpread.of({key: list(levels) for key, levels in taken.items()})
            common, effects = spread.common, common_effects(np.array(list(taken.values())))
            own |= spread.own
        else:
            own |= {key: Variance(float(levels.var(ddof=1)), n - 1) for key, levels in taken.items()}
        known = np.concatenate([effects, np.zeros(n - len(effects))])
        yield _Look(taken, PassSpread(common, dict(own)), known)


def _decided(
    looks: Sequence[_Look], pairs: Pairs[K], layer_of: Callable[[K], Hashable], thresholds: Thresholds
) -> dict[K, tuple[int, Verdict]]:
    """Return what is clear: the pairs of the first look that shows it, and its verdict; what is proved stays proved."""
    keys = [key for key, levels in pairs.items() if len(levels) >= FEWEST_PAIRS]
    verdicts: dict[K, tuple[int, Verdict]] = {}
    if not keys:
        return verdicts
    # Later pairs are taken of what the first ones left open, so the first two say how far layers scatter.
    first = np.array([looks[0].taken[key] for key in keys]) - looks[0].effects
    scatter = Processes(first, [layer_of(key) for key in keys])
    for n, look in enumerate(looks[FEWEST_PAIRS - 2 :], start=FEWEST_PAIRS):
        lines = _at_look(thresholds, n)
        gaps = dict(zip(keys, rank_gaps(scatter, n, lines.family_error / len(pairs)), strict=True))
        for key in keys:
            if key not in verdicts and key in look.taken:
                verdict = judge_pairs(list(look.taken[key]), look.spread, key, len(pairs), lines)
                if _is_clear(verdict, look, key, gaps[key], lines):
                    reason = Reason(verdict.reason.code, f"{verdict.reason.text}, after {n} pairs")
                    verdicts[key] = n, replace(verdict, reason=reason)
    return verdicts


def _is_clear(verdict: Verdict, look: _Look, key: Hashable, gap: float, lines: Thresholds) -> bool:
    """Return whether a verdict at a look stands, whatever further pairs might show."""
    if verdict.code is Code.SLOWER:
        levels = look.taken[key] - look.effects
        together = look.spread.common.half_width(lines.family_error / 2, 1 / len(levels))
        return bool(levels.min() - np.log1p(lines.tolerance) > gap + together)
    if verdict.code is Code.SAME and verdict.ratio:
        # The bound from below lies as far from the estimate as the one from above, which has the same error.
        return verdict.ratio.estimate**2 / verdict.ratio.high > 1 - lines.target
    return verdict.code is Code.FASTER
