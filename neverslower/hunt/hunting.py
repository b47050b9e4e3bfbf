"""Hunting: Hypothesis draws comparisons, an oracle answers, and what contradicts the property is made small.

Hypothesis asks for one comparison many times and wants the same answer each time; that the oracle remembers gives it,
however noisy the device is. It also makes drawing twice cheap: first all examples are drawn, in batches, and nothing
stops there; then for each kind of contradiction its batch is drawn again, and the first of that kind shrinks.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, core, given, seed, settings
from hypothesis.strategies import SearchStrategy

from neverslower.campaign.findings import Identity
from neverslower.campaign.progress import Progress, silent
from neverslower.evidence.observation import Plan
from neverslower.hunt.oracle import Oracle
from neverslower.hunt.strategies import Space, comparisons
from neverslower.judge.verdict import Code, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison

CONFIRMATIONS = 3
"""So many of the smallest hazards of a kind are measured again until one is confirmed."""
BATCH = 10
"""Examples of one run of Hypothesis: so many are drawn afresh, later ones are variations, most of them the same."""
OVERDRAWN = 4
"""So many times what is wanted is drawn at the most: a small space has no more distinct comparisons."""
EXPLORING = 0.5
"""The share of the time budget after which nothing new is drawn once there is something to be made small."""
_CONTRADICT = (Code.CRASHED, Code.INVALID, Code.SLOWER)
_FAILURES = (Code.CRASHED, Code.INVALID)


@dataclass(frozen=True)
class Counterexample:
    """A comparison that contradicts the property, its verdict, and the plans of both layers where they are known."""

    comparison: Comparison
    verdict: Verdict
    plans: tuple[Plan | None, Plan | None]


@dataclass(frozen=True)
class Hunted:
    """What a hunt came to; all numbers are of distinct comparisons.

    `drawn` are all that were asked for, explicit ones and those of shrinking among them: `left_out` of them for want
    of time, the others by verdict in `counts`. `measured` are those that were timed (or compared, in a hunt for wrong
    outputs), `unconfirmed` those that a fresh process did not show. `found` are confirmed hazards, the smallest of
    each kind, `failures` crashes and wrong outputs, explicit ones first; `gone` are explicit ones proved not to be
    slower now.
    """

    drawn: int
    measured: int
    counts: Mapping[Code, int]
    left_out: int
    unconfirmed: int
    seconds: float
    found: tuple[Counterexample, ...]
    failures: tuple[Counterexample, ...]
    gone: tuple[Comparison, ...]


def hunt(
    oracle: Oracle,
    space: Space,
    explicit: Sequence[Comparison] = (),
    budget_seconds: float | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Hunted:
    """Look for layers that get slower by pruning, as many as the loaded profile of Hypothesis has examples.

    Explicit comparisons are asked for first, and do not end the hunt. What is SLOWER is measured again in a fresh
    process, even when the time budget has ended.
    """
    run = _Hunt(oracle, oracle.verdict, oracle.knows, "hunt", budget_seconds, progress, clock)
    least = run.search(explicit, comparisons(oracle.spec.backend, space))
    for one in run.slower(explicit):
        run.confirm(one)
    for kind, hazard in least.items():
        # The smallest may be the whim of one process; those of its kind that were met last were nearly as small.
        # The one that was met first is not chosen by its verdict, as those met while shrinking are.
        *alike, first = [one for one in reversed(run.slower()) if run.kind(one) == kind] or [hazard]
        for one in _distinct([*_distinct([hazard, *alike])[: CONFIRMATIONS - 1], first]):
            if run.confirm(one):
                break
    return run.hunted(explicit, least.values())


def numerics_hunt(
    oracle: Oracle,
    space: Space,
    explicit: Sequence[Comparison] = (),
    budget_seconds: float | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Hunted:
    """Look for wrong outputs and crashes; nothing is timed, and all that is found is a failure."""
    run = _Hunt(oracle, oracle.numerics, oracle.knows_numerics, "numerics", budget_seconds, progress, clock)
    least = run.search(explicit, comparisons(oracle.spec.backend, space))
    return run.hunted(explicit, least.values())


class _Contradiction(Exception):
    """Raised while drawing, for Hypothesis to shrink what was drawn."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.id)
        self.comparison = comparison


class _Hunt:
    """One hunt's questions and answers, while its time lasts."""

    def __init__(
        self,
        oracle: Oracle,
        answer: Callable[[Comparison], Verdict],
        knows: Callable[[Comparison], bool],
        phase: str,
        budget_seconds: float | None,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._oracle, self._answer, self._knows, self._clock = oracle, answer, knows, clock
        self._phase, self._progress = f"{oracle.spec.backend}: {phase}", progress
        self._begin, self._budget = clock(), budget_seconds
        self._wanted = settings().max_examples
        self._met: dict[Identity, Comparison] = {}
        self._verdicts: dict[Identity, Verdict] = {}
        self._left_out: set[Identity] = set()
        self._confirmed: set[Identity] = set()

    def search(self, explicit: Iterable[Comparison], strategy: SearchStrategy[Comparison]) -> dict[str, Comparison]:
        """Ask for explicit comparisons and drawn ones; the smallest contradiction of each kind that was drawn."""
        for comparison in explicit:
            self._ask(comparison, self._moment(1.0))
        met: dict[str, tuple[Comparison, int]] = {}
        drawn: set[Identity] = set()
        first = _seed()
        for number in range(first, first + OVERDRAWN * (1 + self._wanted // BATCH)):
            self._explore(strategy, number, met, drawn)
        # Failures first: their words come first in a kind, and in the alphabet before SLOWER.
        kinds = sorted(met)
        least = {}
        for done, kind in enumerate(kinds):
            comparison, number = met[kind]
            least[kind] = self._least(strategy, number, kind, self._share(len(kinds) - done)) or comparison
        return least

    def _explore(
        self,
        strategy: SearchStrategy[Comparison],
        number: int,
        met: dict[str, tuple[Comparison, int]],
        drawn: set[Identity],
    ) -> None:
        """Draw a batch, and keep the first contradiction of each kind with the number of the batch."""

        def ask(comparison: Comparison) -> None:
            if len(drawn) == self._wanted:
                return
            drawn.add(comparison.identity)
            verdict = self._ask(comparison, self._moment(EXPLORING if met else 1.0))
            if verdict and verdict.code in _CONTRADICT:
                met.setdefault(self.kind(comparison), (comparison, number))

        if len(drawn) < self._wanted:
            _draw(strategy, number, [Phase.generate], ask)

    def _least(
        self, strategy: SearchStrategy[Comparison], number: int, kind: str, until: float | None
    ) -> Comparison | None:
        """What the first contradiction of a kind shrinks to; None where it is not drawn again."""

        def refute(comparison: Comparison) -> None:
            if self._ask(comparison, until) and self.kind(comparison) == kind:
                raise _Contradiction(comparison)

        try:
            _draw(strategy, number, [Phase.generate, Phase.shrink], refute)
        except _Contradiction as found:
            return found.comparison
        return None

    def _ask(self, comparison: Comparison, until: float | None) -> Verdict | None:
        """The answer, or None where it is not known and the moment has come after which nothing is measured.

        That moment does not come back, so what is left out stays left out as long as Hypothesis asks.
        """
        identity = comparison.identity
        if identity in self._verdicts:
            return self._verdicts[identity]
        if until is not None and not self._knows(comparison) and self._clock() >= until:
            self._left_out.add(identity)
            return None
        self._met[identity], self._verdicts[identity] = comparison, self._answer(comparison)
        self._left_out.discard(identity)
        done, end = len(self._met), self._moment(1.0)
        left = None if end is None else max(0.0, end - self._clock())
        self._progress(self._phase, done, max(done, self._wanted), left)
        return self._verdicts[identity]

    def _moment(self, share: float) -> float | None:
        """When so much of the time budget is spent, if there is one."""
        return None if self._budget is None else self._begin + share * self._budget

    def _share(self, waiting: int) -> float | None:
        """When the first of so many that wait has had its part of the time that is left."""
        now, end = self._clock(), self._moment(1.0)
        return None if end is None else now + max(0.0, end - now) / waiting

    def kind(self, comparison: Comparison) -> str:
        """What tells one fault from another: the word, and for a hazard the implementations that pruning leads to."""
        code = self._code(comparison)
        plans = self._oracle.plans(comparison) if code is Code.SLOWER else ()
        return " ".join([str(code), *(str(plan) for plan in plans)])

    def slower(self, among: Iterable[Comparison] | None = None) -> list[Comparison]:
        """The comparisons, all or some, that are SLOWER as yet, in the order in which they were met."""
        chosen = self._met.values() if among is None else among
        return [one for one in chosen if self._code(one) is Code.SLOWER]

    def _code(self, comparison: Comparison) -> Code | None:
        verdict = self._verdicts.get(comparison.identity)
        return verdict.code if verdict else None

    def confirm(self, comparison: Comparison) -> bool:
        """Let a fresh process measure what is SLOWER, once; whether it still is."""
        identity = comparison.identity
        if identity not in self._confirmed and self._code(comparison) is Code.SLOWER:
            self._verdicts[identity] = self._oracle.confirmed(comparison)
            if self._code(comparison) is Code.SLOWER:
                self._confirmed.add(identity)
        return identity in self._confirmed

    def hunted(self, explicit: Iterable[Comparison], least: Iterable[Comparison]) -> Hunted:
        """Everything together."""
        codes = Counter(one.code for one in self._verdicts.values())
        explicit = _distinct(explicit)
        told = _distinct([*explicit, *least])
        confirmed = [one for one in _distinct([*told, *self._met.values()]) if one.identity in self._confirmed]
        return Hunted(
            drawn=len(self._verdicts) + len(self._left_out),
            measured=sum(number for code, number in codes.items() if code.measured),
            counts=dict(codes),
            left_out=len(self._left_out),
            unconfirmed=sum(one.reason.code is ReasonCode.NOT_CONFIRMED for one in self._verdicts.values()),
            seconds=self._clock() - self._begin,
            found=self._shown(confirmed),
            failures=self._shown(self._failures(told)),
            gone=tuple(one for one in explicit if self._code(one) in (Code.SAME, Code.FASTER)),
        )

    def _failures(self, told: Sequence[Comparison]) -> list[Comparison]:
        """Those that were made least; and of a kind that was only met on the way to others, the first."""
        failures = [one for one in told if self._code(one) in _FAILURES]
        for code in _FAILURES:
            if code not in map(self._code, failures):
                failures += [one for one in self._met.values() if self._code(one) is code][:1]
        return failures

    def _shown(self, chosen: Iterable[Comparison]) -> tuple[Counterexample, ...]:
        verdicts, plans = self._verdicts, self._oracle.plans
        return tuple(Counterexample(one, verdicts[one.identity], plans(one)) for one in chosen)


def _draw(
    strategy: SearchStrategy[Comparison], number: int, phases: Sequence[Phase], check: Callable[[Comparison], None]
) -> None:
    """Draw a batch, without anything that would make Hypothesis speak, store, or stop for being slow."""

    @seed(number)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        phases=[one for one in phases if one in settings().phases],
    )
    @given(comparison=strategy)
    def property_holds(comparison: Comparison) -> None:
        check(comparison)

    property_holds()


def _seed() -> int:
    """The seed of the first batch: always the same for a derandomised profile, or the one of --hypothesis-seed."""
    if settings().derandomize:
        return 0
    return secrets.randbits(64) if core.global_force_seed is None else core.global_force_seed


def _distinct(found: Iterable[Comparison]) -> list[Comparison]:
    """Without repetition: a depthwise layer pruned on either side is one comparison."""
    first: dict[Identity, Comparison] = {}
    for one in found:
        first.setdefault(one.identity, one)
    return list(first.values())
