"""Hunt for slow layers: Hypothesis draws comparisons, an oracle answers, and what contradicts the property shrinks.

Hypothesis asks for one comparison many times and needs the same answer each time. The oracle remembers its answers, so
they are the same however noisy the device is, and drawing twice is cheap. So all examples are drawn first, in batches,
and no contradiction stops that; then, for each kind of contradiction, its batch is drawn again and the first of that
kind shrinks.

Where earlier examples are known, every other batch is drawn near them.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, Phase, Verbosity, core, given, seed, settings
from hypothesis.strategies import SearchStrategy

from neverslower.campaign.findings import Identity
from neverslower.campaign.progress import Progress, silent
from neverslower.evidence.observation import Plan
from neverslower.hunt.oracle import Oracle
from neverslower.hunt.strategies import Space, comparisons, near
from neverslower.judge.verdict import Code, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison

CONFIRMATIONS = 3
"""How many of the smallest hazards of a kind are measured again, at most, until one is confirmed."""
BATCH = 10
"""Examples of one run of Hypothesis: it draws this many afresh, and after that mostly repeats variations of them."""
OVERDRAWN = 4
"""Drawing ends after this many times the wanted examples: a small space may have fewer distinct comparisons."""
EXPLORING = 0.5
"""The share of the time budget for drawing, once there is something to shrink; the rest is for shrinking."""
_CONTRADICT = (Code.CRASHED, Code.INVALID, Code.SLOWER)
_FAILURES = (Code.CRASHED, Code.INVALID)
Explained = Callable[[Comparison, Verdict], bool]
"""Says whether something is known that explains why a comparison is slower."""


def blamed(verdict: Verdict) -> Verdict:
    """Return a verdict as a hunt takes it: what a disturbed device spoiled is open, and no failure of the library."""
    return replace(verdict, code=Code.UNDECIDED) if verdict.disturbed else verdict


def unexplained(comparison: Comparison, verdict: Verdict) -> bool:
    """Explain nothing: every slower layer is news."""
    return False


@dataclass(frozen=True)
class _Batch:
    """One run of Hypothesis: its seed, and what it draws from."""

    number: int
    strategy: SearchStrategy[Comparison]

    def draw(self, phases: Sequence[Phase], check: Callable[[Comparison], None]) -> None:
        """Draw examples for `check`, with Hypothesis set to print and store nothing, and not to stop at slow examples.

        Drawn again, the examples are the same.
        """

        @seed(self.number)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
            phases=[phase for phase in phases if phase in settings().phases],
        )
        @given(comparison=self.strategy)
        def property_holds(comparison: Comparison) -> None:
            check(comparison)

        property_holds()


@dataclass(frozen=True)
class Counterexample:
    """A comparison that contradicts the property, its verdict, and the plans of reference and candidate, if known."""

    comparison: Comparison
    verdict: Verdict
    plans: tuple[Plan | None, Plan | None]


@dataclass(frozen=True)
class Hunted:
    """The result of a hunt; all numbers count distinct comparisons.

    `drawn` counts all that were asked for, with the explicit ones and those of shrinking: `left_out` of them were not
    measured for lack of time, `counts` has the others by verdict. `measured` counts those that were timed (or, in a
    hunt for wrong outputs, compared), `unconfirmed` those that were SLOWER but not again in a fresh process. `found`
    are confirmed hazards that nothing explains, the smallest of each kind; `explained` counts the others that were met.
    `failures` are crashes and wrong outputs, explicit ones first;
    `gone` are explicit ones proved not to be slower now. `seconds` is how long the hunt took.
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
    explained: int = 0


def hunt(
    oracle: Oracle,
    space: Space,
    explicit: Sequence[Comparison] = (),
    budget_seconds: float | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
    explained: Explained = unexplained,
    plain: bool = False,
) -> Hunted:
    """Look for layers that get slower by pruning; Hypothesis's loaded profile says how many are drawn.

    What is `explained` is met and passed by. A `plain` hunt, for comparison, looks near no earlier example and spreads
    no channel counts.
    Explicit comparisons are asked for first, and do not end the hunt. What is SLOWER is measured again in a fresh
    process, even when the time budget has ended.
    """
    run = _Hunt(oracle, oracle.verdict, oracle.knows, "hunt", budget_seconds, progress, clock, explained)
    strategies = [comparisons(oracle.spec.backend, space, spread=not plain)]
    earlier = tuple(comparison for comparison in explicit if space.holds(comparison))
    if earlier and not plain:
        strategies.append(near(earlier, space))
    least = run.search(explicit, strategies)
    for comparison in run.slower(explicit):
        run.confirm(comparison)
    for kind, hazard in least.items():
        # The smallest may be an accident of one process; those of its kind that were met last are nearly as small.
        # The first one met is tried too: shrinking picks the others for their verdicts, which favours accidents.
        *alike, first = [slower for slower in reversed(run.slower()) if run.kind(slower) == kind] or [hazard]
        for comparison in _distinct([*_distinct([hazard, *alike])[: CONFIRMATIONS - 1], first]):
            if run.confirm(comparison):
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
    """Look for wrong outputs and crashes; nothing is timed, and every contradiction is a failure."""
    run = _Hunt(oracle, oracle.numerics, oracle.knows_numerics, "numerics", budget_seconds, progress, clock)
    least = run.search(explicit, [comparisons(oracle.spec.backend, space)])
    return run.hunted(explicit, least.values())


class _Contradiction(Exception):
    """Raised while drawing, so that Hypothesis shrinks what was drawn."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.id)
        self.comparison = comparison


class _Hunt:
    """The questions and answers of one hunt: what was met, its verdict, and what was left out or confirmed."""

    def __init__(
        self,
        oracle: Oracle,
        answer: Callable[[Comparison], Verdict],
        knows: Callable[[Comparison], bool],
        phase: str,
        budget_seconds: float | None,
        progress: Progress,
        clock: Callable[[], float],
        explained: Explained = unexplained,
    ) -> None:
        self._explained = explained
        self._earlier: set[Identity] = set()
        self._backend = oracle.spec.backend
        self._oracle, self._answer, self._knows, self._clock = oracle, answer, knows, clock
        self._phase, self._progress = f"{oracle.spec.backend}: {phase}", progress
        self._begin, self._budget = clock(), budget_seconds
        self._wanted = settings().max_examples
        self._met: dict[Identity, Comparison] = {}
        self._verdicts: dict[Identity, Verdict] = {}
        self._left_out: set[Identity] = set()
        self._confirmed: set[Identity] = set()

    def search(
        self, explicit: Sequence[Comparison], strategies: Sequence[SearchStrategy[Comparison]]
    ) -> dict[str, Comparison]:
        """Ask for explicit comparisons, then for those that each strategy draws in turn.

        Returns the smallest drawn contradiction of each kind.
        """
        for comparison in explicit:
            self._ask(comparison, self._moment(1.0))
        self._earlier = {comparison.identity for comparison in explicit}
        met: dict[str, tuple[Comparison, _Batch]] = {}
        drawn: set[Identity] = set()
        for batch in self._batches(strategies):
            self._explore(batch, met, drawn)
        # Failures first: their words come first in a kind, and in the alphabet before SLOWER.
        kinds = sorted(met)
        least = {}
        for done, kind in enumerate(kinds):
            comparison, batch = met[kind]
            least[kind] = self._least(batch, kind, self._share(len(kinds) - done)) or comparison
        return least

    def _batches(self, strategies: Sequence[SearchStrategy[Comparison]]) -> Iterator[_Batch]:
        """Yield more batches than are needed."""
        first = _seed()
        for place in range(OVERDRAWN * (1 + self._wanted // BATCH)):
            yield _Batch(first + place, strategies[place % len(strategies)])

    def _explore(self, batch: _Batch, met: dict[str, tuple[Comparison, _Batch]], drawn: set[Identity]) -> None:
        """Draw a batch, and add the first contradiction of each kind to `met`, with the batch."""

        def ask(comparison: Comparison) -> None:
            if len(drawn) == self._wanted:
                return
            if comparison.identity not in self._earlier:  # What is near an earlier example may be that itself.
                drawn.add(comparison.identity)
            verdict = self._ask(comparison, self._moment(EXPLORING if met else 1.0))
            if verdict and self._contradicts(comparison, verdict):
                met.setdefault(self.kind(comparison), (comparison, batch))

        if len(drawn) < self._wanted:
            batch.draw([Phase.generate], ask)

    def _least(self, batch: _Batch, kind: str, until: float | None) -> Comparison | None:
        """Return what the first contradiction of a kind shrinks to, None where it is not drawn again."""

        def refute(comparison: Comparison) -> None:
            verdict = self._ask(comparison, until)
            if verdict and self._contradicts(comparison, verdict) and self.kind(comparison) == kind:
                raise _Contradiction(comparison)

        try:
            batch.draw([Phase.generate, Phase.shrink], refute)
        except _Contradiction as contradiction:
            return contradiction.comparison
        return None

    def _contradicts(self, comparison: Comparison, verdict: Verdict) -> bool:
        """Return whether a verdict contradicts the property, and nothing explains it."""
        slower = verdict.code is Code.SLOWER
        return verdict.code in _CONTRADICT and not (slower and self._explained(comparison, verdict))

    def _ask(self, comparison: Comparison, until: float | None) -> Verdict | None:
        """Return the answer, or None where it is not known and it is too late to measure: `until` is past.

        Time does not go back, so what is left out stays left out, and Hypothesis gets one answer each time it asks.
        """
        identity = comparison.identity
        if identity in self._verdicts:
            return self._verdicts[identity]
        if until is not None and not self._knows(comparison) and self._clock() >= until:
            self._left_out.add(identity)
            return None
        self._met[identity], self._verdicts[identity] = comparison, blamed(self._answer(comparison))
        self._left_out.discard(identity)
        done, end = len(self._met), self._moment(1.0)
        left = None if end is None else max(0.0, end - self._clock())
        self._progress(self._phase, done, max(done, self._wanted), left)
        return self._verdicts[identity]

    def _moment(self, share: float) -> float | None:
        """Return the moment at which this share of the time budget is spent, None without a budget."""
        return None if self._budget is None else self._begin + share * self._budget

    def _share(self, waiting: int) -> float | None:
        """Return the moment at which the first of `waiting` shrinkings has used its part of the remaining time."""
        now, end = self._clock(), self._moment(1.0)
        return None if end is None else now + max(0.0, end - now) / waiting

    def kind(self, comparison: Comparison) -> str:
        """Return what distinguishes contradictions: the code, and for a hazard the plans of both layers."""
        code = self._code(comparison)
        plans = self._oracle.plans(comparison) if code is Code.SLOWER else ()
        return " ".join([str(code), *(str(plan) for plan in plans)])

    def slower(self, among: Iterable[Comparison] | None = None) -> list[Comparison]:
        """Return the comparisons, all or those given, that are SLOWER so far and unexplained, as they were met."""
        chosen = self._met.values() if among is None else among
        verdicts = ((comparison, self._verdicts.get(comparison.identity)) for comparison in chosen)
        return [
            comparison
            for comparison, verdict in verdicts
            if verdict and verdict.code is Code.SLOWER and self._contradicts(comparison, verdict)
        ]

    def _code(self, comparison: Comparison) -> Code | None:
        verdict = self._verdicts.get(comparison.identity)
        return verdict.code if verdict else None

    def confirm(self, comparison: Comparison) -> bool:
        """Let a fresh process measure what is SLOWER, once; return whether it is still SLOWER."""
        identity = comparison.identity
        if identity not in self._confirmed and self._code(comparison) is Code.SLOWER:
            self._verdicts[identity] = blamed(self._oracle.confirmed(comparison))
            if self._code(comparison) is Code.SLOWER:
                self._confirmed.add(identity)
        return identity in self._confirmed

    def hunted(self, explicit: Iterable[Comparison], least: Iterable[Comparison]) -> Hunted:
        """Return the hunt's result; `least` are the smallest contradictions of each kind."""
        codes = Counter(verdict.code for verdict in self._verdicts.values())
        explicit = _distinct(explicit)
        reported = _distinct([*explicit, *least])
        every = _distinct([*reported, *self._met.values()])
        confirmed = [comparison for comparison in every if comparison.identity in self._confirmed]
        return Hunted(
            drawn=len(self._verdicts) + len(self._left_out),
            measured=sum(number for code, number in codes.items() if code.measured),
            counts=dict(codes),
            left_out=len(self._left_out),
            unconfirmed=sum(verdict.reason.code is ReasonCode.NOT_CONFIRMED for verdict in self._verdicts.values()),
            seconds=self._clock() - self._begin,
            found=self._shown(confirmed),
            failures=self._shown(self._failures(reported)),
            explained=len([one for one in self._met.values() if self._code(one) is Code.SLOWER]) - len(self.slower()),
            gone=tuple(known for known in explicit if self._code(known) in (Code.SAME, Code.FASTER)),
        )

    def _failures(self, reported: Sequence[Comparison]) -> list[Comparison]:
        """Return the failures among those reported, and one of each code that only shrinking met."""
        failures = [comparison for comparison in reported if self._code(comparison) in _FAILURES]
        for code in _FAILURES:
            if code not in map(self._code, failures):
                failures += [comparison for comparison in self._met.values() if self._code(comparison) is code][:1]
        return failures

    def _shown(self, chosen: Iterable[Comparison]) -> tuple[Counterexample, ...]:
        verdicts, plans = self._verdicts, self._oracle.plans
        return tuple(
            Counterexample(comparison, verdicts[comparison.identity], plans(comparison)) for comparison in chosen
        )


def _seed() -> int:
    """Return the seed of the first batch: fixed for a derandomised profile, else --hypothesis-seed, else random."""
    if settings().derandomize:
        return 0
    return secrets.randbits(64) if core.global_force_seed is None else core.global_force_seed


def _distinct(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return the first comparison of each identity: a depthwise layer pruned on either side is one comparison."""
    first: dict[Identity, Comparison] = {}
    for comparison in comparisons:
        first.setdefault(comparison.identity, comparison)
    return list(first.values())
