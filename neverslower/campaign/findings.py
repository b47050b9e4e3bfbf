"""What a campaign found: results with everything that they rest on, kept by the identity of the comparison."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import Unsound
from neverslower.evidence.observation import Evidence, Examined, PairedPass, Searched
from neverslower.judge.cause import Explanation
from neverslower.judge.verdict import ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.subject import Search

Identity = tuple[str, str, str]
FAULTS = (
    ReasonCode.WORKER_DIED,
    ReasonCode.TIME_LIMIT,
    ReasonCode.OUT_OF_MEMORY,
    ReasonCode.TIME_BUDGET,
    ReasonCode.BUDGET_ENDED,
    ReasonCode.BACKEND_UNAVAILABLE,
    ReasonCode.INTERRUPTED,
)
"""What costs a verdict that another run may reach."""


@dataclass(frozen=True, eq=False)
class Result:
    """A comparison with its verdict and everything that it rests on.

    `first` is the verdict before confirmation, `confirmation` what the fresh process measured, where there was one.
    """

    comparison: Comparison
    verdict: Verdict
    passes: tuple[PairedPass, ...] = ()
    reference: Examined | None = None
    candidate: Examined | None = None
    first: Verdict | None = None
    confirmation: PairedPass | None = None
    evidence: Evidence = Evidence.DEVICE_TIME

    @property
    def observed(self) -> bool:
        """Whether there is something to record: samples, or both problems as exact evidence has them."""
        return bool(self.passes) or (self.evidence.exact and self.verdict.code.measured)


@dataclass(frozen=True)
class Agreement:
    """Whether a pruned layer's output equals the kept channels of the unpruned one's."""

    verdict: Verdict
    error: float | None = None
    tolerance: float | None = None


@dataclass
class Findings:
    """What a campaign found, by identity of the comparison.

    `rechecks` are what a fresh process measured of apparent regressions; `searches` what tuning left; `unavailable`
    gives the reason of each missing backend, `remarks` what is to be known of how one was set up. `explanations` say
    why something is slower, where the backend can tell. `pairs` says how many pairs of processes were planned beside
    another library, and why so many; `alone` says why that library was lost on the way. `unsound` is what was
    unsound about each device when the run began, `refused` names the backends that can't be judged here: for that, or
    because another run has the device; `changed` says what became otherwise, `marked` what was measured since.
    `wanted` counts the verdicts that each backend was asked for, those on outputs among them, and `ended` says what
    ended the run before it gave them all.
    """

    results: dict[Identity, Result] = field(default_factory=dict)
    agreements: dict[Identity, Agreement] = field(default_factory=dict)
    rechecks: dict[Identity, PairedPass | Verdict] = field(default_factory=dict)
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

    @property
    def measured(self) -> int:
        """Comparisons behind whose verdict a measurement stands."""
        budget = ReasonCode.TIME_BUDGET
        return sum(r.verdict.code.measured and r.verdict.reason.code is not budget for r in self.results.values())

    @property
    def checked(self) -> int:
        """Comparisons whose outputs were really compared."""
        return sum(one.error is not None for one in self.agreements.values())

    @property
    def left_out(self) -> int:
        """Comparisons that were never begun, for the time budget did not last."""
        return sum(r.verdict.reason.code is ReasonCode.TIME_BUDGET for r in self.results.values())

    @property
    def lost(self) -> Counter[ReasonCode]:
        """Verdicts that were asked for and not reached, by what they were lost to."""
        given: Counter[str] = Counter()
        lost: Counter[ReasonCode] = Counter()
        verdicts = [(identity, one.verdict) for identity, one in self.results.items()]
        verdicts += [(identity, one.verdict) for identity, one in self.agreements.items()]
        for (name, _, _), verdict in verdicts:
            given[name] += 1
            lost[verdict.reason.code] += verdict.reason.code in FAULTS
        for name, wanted in self.wanted.items():
            why = ReasonCode.BACKEND_UNAVAILABLE if name in self.unavailable else ReasonCode.INTERRUPTED
            lost[why] += wanted - given[name]
        return +lost
