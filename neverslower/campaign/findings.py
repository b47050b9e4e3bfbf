"""Holds what a campaign found: results with everything that they rest on, by the identity of the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from neverslower.campaign.forecast import Forecast
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import Unsound
from neverslower.errors import DeviceBusy, NeverSlowerError, Unavailable
from neverslower.evidence.observation import Evidence, Examined, PairedPass, Searched
from neverslower.judge.cause import Explanation
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import ReasonCode, Verdict
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.subject import Search
from neverslower.problem.whole import WholeComparison

Identity = tuple[str, str, str]
C = TypeVar("C", bound=Compared)
FAULTS = (
    ReasonCode.WORKER_DIED,
    ReasonCode.TIME_LIMIT,
    ReasonCode.OUT_OF_MEMORY,
    ReasonCode.TIME_BUDGET,
    ReasonCode.BUDGET_ENDED,
    ReasonCode.BACKEND_UNAVAILABLE,
    ReasonCode.INTERRUPTED,
)
"""These cost a verdict that another run may reach."""


@dataclass(frozen=True, eq=False)
class ResultOf(Generic[C]):
    """A comparison with its verdict and everything that it rests on.

    `first` is the verdict before confirmation, `confirmation` what the fresh process measured, where there was one.
    """

    comparison: C
    verdict: Verdict
    passes: tuple[PairedPass, ...] = ()
    reference: Examined | None = None
    candidate: Examined | None = None
    first: Verdict | None = None
    confirmation: PairedPass | None = None
    evidence: Evidence = Evidence.DEVICE_TIME

    @property
    def observed(self) -> bool:
        """Return whether there is something to record: samples, or both problems as exact evidence has them."""
        return bool(self.passes) or (self.evidence.exact and self.verdict.code.measured)


Result = ResultOf[Comparison]
WholeResult = ResultOf[WholeComparison]


@dataclass(frozen=True)
class Agreement:
    """Whether a pruned layer's output equals the kept channels of the unpruned one's."""

    verdict: Verdict
    error: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Spoiled:
    """A device that became unfit while it measured: why, what had its verdict by then, and whether a hunt went on."""

    why: str
    finished: frozenset[Identity]
    hunting: bool = False


@dataclass
class Findings:
    """Holds what a campaign found, by identity of the comparison: `results` are of layers, `wholes` of whole networks.

    `rechecks` are what a fresh process measured of apparent regressions; `searches` what tuning left; `unavailable`
    gives the reason of each missing backend, `remarks` what is to be known of how one was set up. `explanations` say
    why something is slower, where the backend can tell. `pairs` says how many pairs of processes were planned beside
    another library, and why so many; `alone` says why that library was lost on the way. `unsound` is what was
    unsound about each device when the run began, `refused` names the backends that can't be judged here: for that, or
    because another run has the device; `changed` says what became otherwise, `marked` what was measured since.
    `spoiled` says why a device became unfit, where something was measured on it then.
    `noisy` says early what a machine is expected to prove that is too noisy for its budget. `lacking` are the seconds,
    about, that would have decided what a backend's time budget left undecided, where that is known.
    `wanted` counts the verdicts that each backend was asked for, those on outputs among them, and `ended` says what
    ended the run before it gave them all.
    """

    results: dict[Identity, Result] = field(default_factory=dict)
    wholes: dict[Identity, WholeResult] = field(default_factory=dict)
    agreements: dict[Identity, Agreement] = field(default_factory=dict)
    rechecks: dict[Identity, PairedPass | Failure] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    searches: dict[Search, Searched] = field(default_factory=dict)
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tuning_seconds: float = 0.0
    explanations: dict[Identity, Explanation] = field(default_factory=dict)
    unsound: dict[str, tuple[Unsound, ...]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    changed: dict[str, str] = field(default_factory=dict)
    marked: dict[Identity, str] = field(default_factory=dict)
    wanted: Counter[str] = field(default_factory=Counter)
    ended: str = ""
    noisy: dict[str, Forecast] = field(default_factory=dict)
    lacking: dict[str, float] = field(default_factory=dict)
    spoiled: dict[str, Spoiled] = field(default_factory=dict)

    # What a campaign, its guard and a hunt tell. Nobody else writes a field.

    def foresee(self, backend: str, forecast: Forecast) -> None:
        """Keep that a machine is too noisy for its budget, and what is to be expected."""
        self.noisy[backend] = forecast

    def lack_time(self, backend: str, seconds: float) -> None:
        """Keep how much longer a backend's time budget had to be, about, to decide everything."""
        self.lacking[backend] = seconds

    def want(self, comparisons: Iterable[Compared]) -> None:
        """Count the verdicts that are asked for, by backend."""
        self.wanted = Counter(comparison.backend for comparison in comparisons)

    def spare(self, backend: str, number: int) -> None:
        """Ask for so many verdicts less: nobody chose to measure what they would have been about."""
        self.wanted[backend] -= number

    def identify(self, backend: str, fingerprint: Fingerprint) -> None:
        """Keep what a backend's device and software are."""
        self.fingerprints[backend] = fingerprint

    def remark(self, backend: str, remarks: tuple[str, ...]) -> None:
        """Keep what is to be known of how a backend was set up, if there is anything."""
        if remarks:
            self.remarks[backend] = remarks

    def finish(self, result: ResultOf[Any]) -> None:
        """Give a comparison its one verdict."""
        found: dict[Identity, Any] = self.wholes if result.comparison.whole else self.results
        found[result.comparison.identity] = result

    def agree(self, comparison: Comparison, agreement: Agreement) -> None:
        """Give a comparison its one verdict on the output."""
        self.agreements[comparison.identity] = agreement

    def recheck(self, comparison: Comparison, again: PairedPass | Failure) -> None:
        """Keep what a fresh process measured of an apparent regression."""
        self.rechecks[comparison.identity] = again

    def explain(self, comparison: Comparison, explanation: Explanation) -> None:
        """Keep why a comparison is slower."""
        self.explanations[comparison.identity] = explanation

    def search(self, search: Search, searched: Searched) -> None:
        """Keep what tuning left."""
        self.searches[search] = searched

    def tune(self, seconds: float) -> None:
        """Add seconds that tuning took, which no time budget pays for."""
        self.tuning_seconds += seconds

    def plan(self, backend: str, pairs: str) -> None:
        """Keep how many pairs of processes were planned beside another library, and why so many."""
        self.pairs[backend] = pairs

    def require(self, backend: str) -> None:
        """Raise NeverSlowerError, with the reason, where a backend can't be measured here."""
        if backend in self.unavailable:
            raise NeverSlowerError(f"{backend} can't be measured: {self.unavailable[backend]}")

    def lack(self, backend: str, why: Unavailable) -> None:
        """Give up a backend that is missing; one whose device another run keeps can't be judged here."""
        self.unavailable[backend] = str(why)
        if isinstance(why, DeviceBusy):
            self.refuse(backend)

    def refuse(self, backend: str) -> None:
        """Name a backend that can't be judged here."""
        self.refused.add(backend)

    def lose(self, backend: str, why: str) -> None:
        """Keep why the library that a backend is measured beside was lost on the way."""
        self.alone[backend] = why

    def doubt(self, backend: str, unsound: tuple[Unsound, ...]) -> None:
        """Keep what was unsound about a device when the run began."""
        self.unsound[backend] = unsound

    def change(self, backend: str, what: str) -> None:
        """Keep what became otherwise about a device while it measured."""
        self.changed[backend] = what

    def spoil(self, backend: str, why: str, hunting: bool = False) -> None:
        """Keep why a device became unfit while it measured, the first time that something was measured on it then.

        What a hunt finds has no place here, so of one that was `hunting` then it is not known what came after.
        """
        if backend not in self.spoiled:
            finished = frozenset(identity for identity in self.verdicts if identity[0] == backend)
            self.spoiled[backend] = Spoiled(why, finished, hunting)

    def mark(self, comparison: Compared, why: str) -> None:
        """Mark what was measured while the device's state was another."""
        self.marked[comparison.identity] = why

    def end(self, why: str) -> None:
        """Keep what ended the run before it gave all its verdicts."""
        self.ended = why

    def last(self, seconds: float) -> None:
        """Keep the seconds that the whole run took."""
        self.seconds = seconds

    # What others read

    @property
    def verdicts(self) -> dict[Identity, Verdict]:
        """Return the verdict on the time of each layer and each whole network that has one."""
        found: list[tuple[Identity, ResultOf[Any]]] = [*self.results.items(), *self.wholes.items()]
        return {identity: result.verdict for identity, result in found}

    def has(self, comparison: Compared) -> bool:
        """Return whether a comparison has its verdict."""
        return comparison.identity in (self.wholes if comparison.whole else self.results)

    @property
    def measured(self) -> int:
        """Return how many comparisons have a verdict behind which a measurement stands."""
        budget = ReasonCode.TIME_BUDGET
        return sum(verdict.code.measured and verdict.reason.code is not budget for verdict in self.verdicts.values())

    @property
    def checked(self) -> int:
        """Return how many comparisons had their outputs really compared."""
        return sum(agreement.error is not None for agreement in self.agreements.values())

    @property
    def left_out(self) -> int:
        """Return how many comparisons were never begun, for the time budget did not last."""
        return sum(verdict.reason.code is ReasonCode.TIME_BUDGET for verdict in self.verdicts.values())

    @property
    def lost(self) -> Counter[ReasonCode]:
        """Count the verdicts that were asked for and not reached, by what they were lost to."""
        given: Counter[str] = Counter()
        lost: Counter[ReasonCode] = Counter()
        verdicts = list(self.verdicts.items())
        verdicts += [(identity, agreement.verdict) for identity, agreement in self.agreements.items()]
        for (name, _, _), verdict in verdicts:
            given[name] += 1
            lost[verdict.reason.code] += verdict.reason.code in FAULTS
        for name, wanted in self.wanted.items():
            why = ReasonCode.BACKEND_UNAVAILABLE if name in self.unavailable else ReasonCode.INTERRUPTED
            lost[why] += wanted - given[name]
        return +lost
