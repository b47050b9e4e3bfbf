"""Checks whether the outputs of a pruned layer are the kept channels of the unpruned one's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Agreement
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side


def check(run: BackendRun, comparisons: Sequence[Comparison]) -> None:
    """Compare the outputs of each; what an earlier run compared is not compared again.

    That comes before anything is timed, so that no budget for times leaves an output out: it takes a share of its own.
    """
    phase = run.phase()
    until = run.budget.until_outputs(phase.begin)
    for done, comparison in enumerate(comparisons, start=1):
        if until is not None and run.clock() > until:
            agree(run, comparison, Agreement(out_of_time("checked").verdict))
            continue
        if known := run.recorded.agreements.get(comparison.identity):
            agree(run, comparison, _agreement(*known))
            continue
        agree(run, comparison, _compared(run, comparison))
        phase.show("numerics", done, len(comparisons))


def _compared(run: BackendRun, comparison: Comparison) -> Agreement:
    whole, part = comparison.reference, comparison.candidate
    if comparison.grown:  # Then the original's output is part of the other one's.
        whole, part = part, whole
    if any(part.channels(side) > whole.channels(side) for side in (Side.OUT, Side.IN)):
        text = "fewer channels on one side and more on the other, so neither output is part of the other"
        return Agreement(Verdict(Code.UNSUPPORTED, Reason(ReasonCode.MORE_CHANNELS, text)))
    answer: tuple[float, float] | Failure = run.library.ask(lambda worker: worker.agree(whole.key, part.key))
    return Agreement(answer.verdict) if isinstance(answer, Failure) else _agreement(*answer)


def agree(run: BackendRun, comparison: Comparison, agreement: Agreement) -> None:
    """Keep a comparison's one verdict on the output, and write it to the journal."""
    run.findings.agree(comparison, agreement)
    finite = agreement.error is not None and math.isfinite(agreement.error)  # JSON has no other numbers.
    deviation = {"error": agreement.error, "tolerance": agreement.tolerance} if finite else {}
    run.library.write("agreement", comparison.named | deviation | asdict(agreement.verdict))


def _agreement(error: float, tolerance: float) -> Agreement:
    """Return the verdict on a deviation, as a share of the largest value."""
    if error <= tolerance:
        text = f"equal to {error:.2g} of the largest value"
        return Agreement(Verdict(Code.SAME, Reason(ReasonCode.PROVED, text)), error, tolerance)
    text = f"off by {error:.2g} of the largest value (tolerance {tolerance:g})"
    return Agreement(Verdict(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text)), error, tolerance)
