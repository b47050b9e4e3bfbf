"""Verdicts: the words, the thresholds, and the judge that turns paired samples into one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import numpy as np

from neverslower.evidence.observation import Examined, PairedPass
from neverslower.judge import stats


class Code(str, Enum):
    """What was found: of time, of instructions, of dispatch, or why there is nothing to say."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    UNDECIDED = "UNDECIDED"
    FEWER = "FEWER"
    MORE = "MORE"
    CHANGED = "CHANGED"
    NO_BASELINE = "NO_BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    UNSUPPORTED = "UNSUPPORTED"
    INVALID = "INVALID"
    CRASHED = "CRASHED"

    def __str__(self) -> str:
        return self.value

    @property
    def measured(self) -> bool:
        """Whether a measurement stands behind the word."""
        return self in (Code.FASTER, Code.SAME, Code.SLOWER, Code.UNDECIDED, Code.FEWER, Code.MORE, Code.CHANGED)

    @property
    def decided(self) -> bool:
        """Whether the question was answered."""
        return self.measured and self is not Code.UNDECIDED


class ReasonCode(str, Enum):
    """Why a verdict is what it is, in a word that programs can read.

    TIME_BUDGET left something out that was never begun; BUDGET_ENDED ended what was begun, before it was decided.
    """

    PROVED = "proved"
    NOT_IN_TUNED_LOG = "not_in_tuned_log"
    EQUALLY_TUNED = "equally_tuned"
    LUCK_OF_THE_SEARCH = "luck_of_the_search"
    WITHIN_TARGET = "within_target"
    TOO_NOISY = "too_noisy"
    NOT_CONFIRMED = "not_confirmed"
    TIME_BUDGET = "time_budget"
    BUDGET_ENDED = "budget_ended"
    INTERRUPTED = "interrupted"
    LIBRARY_REFUSES = "library_refuses"
    OUT_OF_MEMORY = "out_of_memory"
    WRONG_OUTPUT = "wrong_output"
    BAD_SAMPLES = "bad_samples"
    WORKER_DIED = "worker_died"
    TIME_LIMIT = "time_limit"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    NOT_IN_BASELINE = "not_in_baseline"
    ENVIRONMENT_DIFFERS = "environment_differs"
    COUNTED = "counted"
    PLAN_CHANGED = "plan_changed"
    UNEVEN_DISPATCH = "uneven_dispatch"
    MORE_WORK_ITEMS = "more_work_items"
    MORE_WASTE = "more_waste"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Reason:
    """Why that verdict: a code for programs, a text for people."""

    code: ReasonCode
    text: str


UNPROVED = 1e6
"""Where a bound lies, or its inverse, of which nothing is proved yet: no two calls differ by so much."""


@dataclass(frozen=True)
class Interval:
    """A ratio with its confidence interval: `low` at the level of a SLOWER, `high` at that of a SAME (Thresholds)."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:  # Of counts, which have no interval.
            return f"{self.estimate:.3f}×"
        low, high = self.low > 1 / UNPROVED, self.high < UNPROVED
        if low and high:
            return f"{self.estimate:.3f}× [{self.low:.3f}, {self.high:.3f}]"
        bound = f" [≥ {self.low:.3f}]" if low else f" [≤ {self.high:.3f}]" if high else ""
        return f"{self.estimate:.3f}×{bound}"


@dataclass(frozen=True)
class Verdict:
    """A decision with its reason, and for a measured one what it rests on.

    `ratio` is candidate over reference. `noise_floor` is the gap that the reference shows against itself and `mde`
    the smallest slowdown that this measurement could have proved, both as fractions (0.02 is 2 %).
    """

    code: Code
    reason: Reason
    ratio: Interval | None = None
    noise_floor: float | None = None
    mde: float | None = None


@dataclass(frozen=True)
class Thresholds:
    """The lines that a verdict is drawn along; fractions, so 0.01 is 1 %.

    Slowdowns up to `tolerance` are nobody's business; from `target` on they must be found. `family_error` is the
    chance of any false SLOWER in a whole campaign, `miss_error` that of a wrong SAME or FASTER in one comparison.
    Of the blocks that were taken, `most_discarded` may be dropped for a disturbed device; more, and nothing is judged.
    Counts of `instructions` are exact, so that what differs by this share is told.
    """

    tolerance: float = 0.01
    target: float = 0.03
    family_error: float = 0.01
    miss_error: float = 0.01
    most_discarded: float = 0.25
    instructions: float = 0.005


STANDARD = Thresholds()


class Judge(Protocol):
    """Turns the passes of one comparison into a verdict; `comparisons` is how many the campaign makes in all."""

    @property
    def most_passes(self) -> int:
        """The passes after which a comparison has had its budget."""
        ...

    def fewest_passes(self, comparisons: int) -> int:
        """The passes from which on the ratio can have two bounds."""
        ...

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """The verdict; raises nothing: samples that can't be judged are INVALID."""
        ...

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        """Whether more passes would not change the verdict, or the budget is spent."""
        ...

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        """The verdict on what was SLOWER by its passes, after a later one in a fresh process."""
        ...


def noise_floor(passes: Sequence[PairedPass], error: float) -> float:
    """The gap that the reference shows against itself, as a fraction: what is below it proves nothing.

    The half-width, at the level of a SLOWER, of the reference's own first against second rounds, each on one side as
    the candidate was on both: √2 of it is the rounds' doubled weight.
    """
    own = np.concatenate([np.log(one.seconds[:, 0, 0] / one.seconds[:, 0, 1]) for one in passes])
    spread = stats.robust_deviation(own) / math.sqrt(2.0 * len(own))
    return math.expm1(stats.normal_quantile(1 - error) * spread * math.sqrt(math.pi / 3))


def decide(ratio: Interval, thresholds: Thresholds) -> tuple[Code, Reason]:
    """The word for a ratio whose interval is `ratio`: each is tried in turn, and what can be proved twice is SAME."""
    tolerance, target = thresholds.tolerance, thresholds.target
    if ratio.high < 1 - tolerance:
        return Code.FASTER, Reason(ReasonCode.PROVED, f"proved below {1 - tolerance:.2f}×")
    if ratio.high < 1 + target:
        return Code.SAME, Reason(ReasonCode.WITHIN_TARGET, f"proved below {1 + target:.2f}×")
    if ratio.low > 1 + tolerance:
        return Code.SLOWER, Reason(ReasonCode.PROVED, f"proved above {1 + tolerance:.2f}×")
    text = f"neither above {1 + tolerance:.2f}× nor below {1 + target:.2f}× could be proved"
    return Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text)


def explained(verdict: Verdict, reference: Examined | None, candidate: Examined | None) -> Verdict:
    """The verdict, where a SLOWER candidate that fell out of the tuned log is told from any other.

    It says nothing of the layer: the candidate runs untuned loops, the reference a schedule that a search found.
    """
    if verdict.code is not Code.SLOWER or not (reference and candidate and reference.plan.tuned):
        return verdict
    if candidate.plan.tuned is not False:
        return verdict
    text = f"a miss: the tuned log has no record of this shape, so it runs untuned ({verdict.reason.text})"
    return replace(verdict, reason=Reason(ReasonCode.NOT_IN_TUNED_LOG, text))


def block_log_ratios(seconds: np.ndarray) -> np.ndarray:
    """log(candidate / reference) of each block, from seconds of shape (blocks, 2, 2): see PairedPass."""
    logs = np.log(seconds).mean(axis=2)
    return np.asarray(logs[:, 1] - logs[:, 0])


def bad_samples(passes: Sequence[PairedPass], most_discarded: float) -> str | None:
    """Why these samples can't be judged, or None."""
    kept, discarded = sum(len(one.seconds) for one in passes), sum(one.discarded for one in passes)
    if discarded > most_discarded * (kept + discarded):
        why = ", ".join(dict.fromkeys(one.why_discarded for one in passes if one.discarded))
        return f"{discarded} of {kept + discarded} blocks were dropped: {why}"
    if not passes or not any(len(one.seconds) for one in passes):
        return "no samples"
    for one in passes:
        if not np.all(np.isfinite(one.seconds)) or np.any(one.seconds <= 0):
            return "a sample is not a positive number of seconds"
    return None
