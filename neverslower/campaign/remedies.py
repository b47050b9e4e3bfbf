"""Looks for padding that makes slower layers faster: a layer's slower counts and their paddings in one sweep.

Each count is compared with each of its paddings by the rounds that both had in the same sweeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Result
from neverslower.campaign.passes import BYTES_TOGETHER
from neverslower.evidence.observation import PairedPass
from neverslower.judge.cause import Remedy
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Interval, Verdict
from neverslower.problem.comparison import Comparison, padded_selves
from neverslower.problem.convolution import ConvProblem, Side

MOST_ARMS = 16
"""Problems in a sweep besides the unpruned one: in a longer one two rounds that are compared lie far apart."""


@dataclass(frozen=True)
class Padding:
    """A slower layer, and one padding of it, by their keys."""

    candidate: str
    padded: str


def remedies(
    run: BackendRun, results: Sequence[Result], spent: Callable[[], bool], show: Callable[[str, int, int], None]
) -> dict[Comparison, Remedy]:
    """Return the padding that saves the most time, of those that are proved to save any, until the time is `spent`."""
    found: dict[Comparison, Remedy] = {}
    pairs, done = sum(len(padded_selves(result.comparison)) for result in results), 0
    for group in swept_together(results):
        if spent():
            break
        verdicts = _Trial(run, group, pairs, spent).verdicts()
        for result in group:
            if remedy := _best_of(result, verdicts):
                found[result.comparison] = remedy
        done += len(group)
        show("remedies", done, len(results))
    return found


def swept_together(results: Sequence[Result]) -> Iterator[list[Result]]:
    """Yield results of one layer whose problems and paddings are few and small enough for one sweep."""
    layers: dict[str, list[Result]] = {}
    for result in results:
        layers.setdefault(result.comparison.keys[0], []).append(result)
    for layer in layers.values():
        group: list[Result] = []
        arms: dict[ConvProblem, None] = {}
        for result in layer:
            more = arms | dict.fromkeys([result.comparison.candidate, *_paddings(result)])
            if group and (len(more) > MOST_ARMS or sum(arm.bytes for arm in more) > BYTES_TOGETHER):
                yield group
                group, more = [], dict.fromkeys([result.comparison.candidate, *_paddings(result)])
            group.append(result)
            arms = more
        yield group


def _paddings(result: Result) -> list[ConvProblem]:
    """Return what is to be timed: to the unpruned layer it was compared before."""
    comparison = result.comparison
    return [padded for padded in padded_selves(comparison) if padded.key != comparison.keys[0]]


def _best_of(result: Result, verdicts: Mapping[Padding, Verdict]) -> Remedy | None:
    side, (reference, candidate) = result.comparison.side, result.comparison.keys
    found = []
    for padded in padded_selves(result.comparison):
        verdict = result.verdict if padded.key == reference else verdicts.get(Padding(candidate, padded.key))
        if verdict and verdict.code is Code.SLOWER and verdict.ratio:
            inputs = padded.in_channels if side is Side.TOGETHER else None
            found.append(Remedy(padded.channels(side), _inverse(verdict.ratio), inputs))
    return min(found, key=lambda remedy: remedy.ratio.estimate, default=None)


class _Trial:
    """Sweeps a group in one process, all of it prepared anew each time, until the judge has seen enough of each."""

    def __init__(self, run: BackendRun, group: Sequence[Result], family: int, spent: Callable[[], bool]) -> None:
        self._library, self._judge, self._settings = run.library, run.judge, run.settings
        self._family, self._spent, self._layer = family, spent, group[0].comparison.keys[0]
        self._passes: dict[Padding, list[PairedPass]] = {
            Padding(result.comparison.keys[1], padded.key): [] for result in group for padded in _paddings(result)
        }

    def verdicts(self) -> dict[Padding, Verdict]:
        """Return what the pairs show; where a sweep fails each is measured by itself, and dropped if it fails."""
        for number in range(self._judge.most_passes):
            waiting = [pair for pair, passes in self._passes.items() if not self._judge.enough(passes, self._family)]
            if not waiting or self._spent():
                break
            if not self._sweep(waiting, number):
                self._one_by_one(waiting, number)
        return {pair: self._judge(passes, self._family) for pair, passes in self._passes.items() if passes}

    def _sweep(self, waiting: Sequence[Padding], number: int) -> bool:
        """Take one more pass of these, and return whether that was possible."""
        keys = list(dict.fromkeys(key for pair in waiting for key in (pair.padded, pair.candidate)))
        seed = f"{self._settings.seed}/remedies/{self._layer}/{number}"
        answer = self._library.sweep(self._layer, keys, self._settings.blocks, seed)
        if isinstance(answer, Failure):
            return False
        arms = dict(zip(keys, answer, strict=True))
        for pair in waiting:
            self._passes[pair].append(PairedPass.of_one_sweep(arms[pair.padded], arms[pair.candidate]))
        return True

    def _one_by_one(self, waiting: Sequence[Padding], number: int) -> None:
        for pair in waiting:
            answer = self._library.measure_afresh(pair.padded, pair.candidate, self._settings.blocks, number)
            if isinstance(answer, Failure):
                del self._passes[pair]
            else:
                self._passes[pair].append(answer)


def _inverse(ratio: Interval) -> Interval:
    """Return the ratio with its sides exchanged; a bound that was not reached is none."""
    return Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low)
