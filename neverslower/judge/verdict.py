"""Verdicts: the words, the thresholds, and the judge that turns paired samples into one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from neverslower.enums import StrEnum
from neverslower.evidence.observation import Examined, PairedPass
from neverslower.judge import stats


class Code(StrEnum):
    """The verdict in a word: on time, on instructions, on dispatch, or why there is nothing to say."""

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

    @property
    def measured(self) -> bool:
        """Return whether the verdict rests on a measurement."""
        return self in (Code.FASTER, Code.SAME, Code.SLOWER, Code.UNDECIDED, Code.FEWER, Code.MORE, Code.CHANGED)


class ReasonCode(StrEnum):
    """The reason for a verdict, in a word that programs can read.

    TIME_BUDGET left something out that was never begun; BUDGET_ENDED ended what was begun, before it was decided.
    """

    PROVED = "proved"
    NOT_IN_TUNED_LOG = "not_in_tuned_log"
    EQUALLY_TUNED = "equally_tuned"
    LUCK_OF_THE_SEARCH = "luck_of_the_search"
    WITHIN_TARGET = "within_target"
    TOO_NOISY = "too_noisy"
    ESTIMATED = "estimated"
    NOT_CONFIRMED = "not_confirmed"
    TIME_BUDGET = "time_budget"
    BUDGET_ENDED = "budget_ended"
    INTERRUPTED = "interrupted"
    LIBRARY_REFUSES = "library_refuses"
    OUT_OF_MEMORY = "out_of_memory"
    WRONG_OUTPUT = "wrong_output"
    BAD_SAMPLES = "bad_samples"
    DISTURBED = "disturbed"
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
    MORE_CHANNELS = "more_channels"


@dataclass(frozen=True)
class Reason:
    """The reason for a verdict: a code for programs and a text for people."""

    code: ReasonCode
    text: str


UNPROVED = 1e6
"""The place of an upper bound, or the inverse of a lower one, that proves nothing: no two calls differ by so much."""


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
    """A decision with its reason and, if measured, what it rests on.

    `ratio` is candidate over reference. `noise_floor` is the gap that the reference shows against itself and `mde`
    the smallest slowdown that this measurement could have proved, both as fractions (0.02 is 2 %).
    """

    code: Code
    reason: Reason
    ratio: Interval | None = None
    noise_floor: float | None = None
    mde: float | None = None

    @property
    def disturbed(self) -> bool:
        """Return whether nothing is judged because the device was throttled or busy."""
        return self.reason.code is ReasonCode.DISTURBED

    @property
    def at_fault(self) -> bool:
        """Return whether the library refuses, crashes or computes something wrong.

        Samples that can't be judged, as where the device was throttled, are no fault of the library.
        """
        wrong = self.code is Code.INVALID and self.reason.code is not ReasonCode.BAD_SAMPLES and not self.disturbed
        return wrong or self.code in (Code.CRASHED, Code.UNSUPPORTED)


@dataclass(frozen=True)
class Thresholds:
    """The limits that decide a verdict, as fractions: 0.01 is 1 %.

    Slowdowns up to `tolerance` do not matter; from `target` on they must be found. `family_error` is the chance of any
    false SLOWER in a whole campaign, `miss_error` that of a wrong SAME or FASTER in one comparison. At most a share of
    `most_discarded` of the blocks may be dropped for a disturbed device; beyond that nothing is judged. Counts of
    `instructions` are exact, so a difference of more than this share is reported.
    """

    tolerance: float = 0.01
    target: float = 0.03
    family_error: float = 0.01
    miss_error: float = 0.01
    most_discarded: float = 0.25
    instructions: float = 0.005


STANDARD = Thresholds()


def beyond(ratio: Interval | None, other: Interval | None, thresholds: Thresholds = STANDARD) -> bool:
    """Return whether a ratio is proved to lie above another one by more than the tolerance."""
    return ratio is not None and other is not None and ratio.low > other.high * (1 + thresholds.tolerance)


class Judge(Protocol):
    """Turns the passes of one comparison into a verdict; `comparisons` is how many the campaign makes in all."""

    @property
    def most_passes(self) -> int:
        """Return the number of passes after which a comparison has used up its budget."""
        ...

    def fewest_passes(self, comparisons: int) -> int:
        """Return the number of passes from which on the ratio can have two bounds."""
        ...

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """Return the verdict. Raises nothing: samples that can't be judged are INVALID."""
        ...

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        """Return (noise floor, smallest slowdown that could be proved), as a verdict has them; None where unknown."""
        ...

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        """Return whether more passes would not change the verdict, or the budget is spent."""
        ...

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        """Return the verdict on what its passes proved SLOWER, after a later pass in a fresh process."""
        ...


def noise_floor(passes: Sequence[PairedPass], error: float) -> float:
    """Return the gap that the reference shows against itself, as a fraction: a gap below it proves nothing.

    It is the half-width, at the level of a SLOWER, of the reference's first rounds against its second ones.
    """
    # A round against a round varies twice as much as a block, whose two sides are means of two rounds each. The centre
    # of signed ranks has π/3 of the mean's variance on normal values.
    own = np.concatenate([np.log(pass_.seconds[:, 0, 0] / pass_.seconds[:, 0, 1]) for pass_ in passes])
    spread = stats.robust_deviation(own) / math.sqrt(2.0 * len(own))
    return math.expm1(stats.normal_quantile(1 - error) * spread * math.sqrt(math.pi / 3))


def decide(ratio: Interval, thresholds: Thresholds) -> tuple[Code, Reason]:
    """Return the word for a ratio, and why; words are tried in turn, so a ratio proved both SAME and SLOWER is SAME."""
    tolerance, target = thresholds.tolerance, thresholds.target
    if ratio.high < 1 - tolerance:
        return Code.FASTER, Reason(ReasonCode.PROVED, f"proved below {1 - tolerance:.2f}×")
    # SAME before SLOWER: between tolerance and target both can be proved, and such a slowdown need not be found.
    if ratio.high < 1 + target:
        return Code.SAME, Reason(ReasonCode.WITHIN_TARGET, f"proved below {1 + target:.2f}×")
    if ratio.low > 1 + tolerance:
        return Code.SLOWER, Reason(ReasonCode.PROVED, f"proved above {1 + tolerance:.2f}×")
    text = f"neither above {1 + tolerance:.2f}× nor below {1 + target:.2f}× could be proved"
    return Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text)


def whether_faster(verdict: Verdict, thresholds: Thresholds = STANDARD) -> Verdict:
    """Return the verdict as an answer to whether the candidate is faster: no slower answers it only where that is no.

    A SAME is UNDECIDED as long as its interval reaches below the line of a FASTER.
    """
    line = 1 - thresholds.tolerance
    if verdict.code is not Code.SAME or verdict.ratio is None or verdict.ratio.low >= line:
        return verdict
    text = f"no slower, but neither below {line:.2f}× nor above it could be proved"
    return replace(verdict, code=Code.UNDECIDED, reason=Reason(ReasonCode.TOO_NOISY, text))


def explained(verdict: Verdict, reference: Examined | None, candidate: Examined | None) -> Verdict:
    """Return the verdict, with another reason where a SLOWER candidate merely fell out of the tuned log.

    Such a verdict says nothing of the layer: the candidate runs untuned loops, the reference a searched schedule.
    """
    if verdict.code is not Code.SLOWER or not (reference and candidate and reference.plan.tuned):
        return verdict
    if candidate.plan.tuned is not False:
        return verdict
    text = f"a miss: the tuned log has no record of this shape, so it runs untuned ({verdict.reason.text})"
    return replace(verdict, reason=Reason(ReasonCode.NOT_IN_TUNED_LOG, text))


def block_log_ratios(seconds: np.ndarray) -> np.ndarray:
    """Return log(candidate / reference) of each block, of shape (blocks,), from seconds of shape (blocks, 2, 2)."""
    # The mean of logs weighs both rounds of a side alike, and negates when the sides are swapped.
    logs = np.log(seconds).mean(axis=2)
    return np.asarray(logs[:, 1] - logs[:, 0])


def invalid(passes: Sequence[PairedPass], most_discarded: float) -> Verdict | None:
    """Return INVALID for samples that can't be judged, None for those that can.

    What a device lost because it was throttled or busy says nothing of the library: the reason tells these apart.
    """
    if not (why := bad_samples(passes, most_discarded)):
        return None
    kept = [pass_ for pass_ in passes if len(pass_.seconds)]
    disturbed = any(pass_.discarded for pass_ in passes) and not (kept and bad_samples(kept, 1.0))
    return Verdict(Code.INVALID, Reason(ReasonCode.DISTURBED if disturbed else ReasonCode.BAD_SAMPLES, why))


def bad_samples(passes: Sequence[PairedPass], most_discarded: float) -> str | None:
    """Return why these samples can't be judged, or None if they can."""
    kept, discarded = sum(len(pass_.seconds) for pass_ in passes), sum(pass_.discarded for pass_ in passes)
    # A device that is disturbed so often is not the device that the verdict would be about.
    if discarded > most_discarded * (kept + discarded):
        why = ", ".join(dict.fromkeys(pass_.why_discarded for pass_ in passes if pass_.discarded))
        return f"{discarded} of {kept + discarded} blocks were dropped: {why}"
    if not passes or not any(len(pass_.seconds) for pass_ in passes):
        return "no samples"
    for pass_ in passes:
        if not np.all(np.isfinite(pass_.seconds)) or np.any(pass_.seconds <= 0):
            return "a sample is not a positive number of seconds"
    return None
