"""What time is planned: arithmetic on a clock that stands still, without devices."""

from __future__ import annotations

import pytest

from neverslower.campaign.budget import PREPARING_AGAIN, Budget, out_of_time, share
from neverslower.judge.verdict import Code, ReasonCode


def budget(deadline: float | None = 100.0, **fields: float) -> Budget:
    """A budget whose clock says 10 s, with 2 passes at the least and 24 at most."""
    return Budget(lambda: 10.0, deadline, **({"fewest": 2, "most": 24} | fields))  # type: ignore[arg-type]


def test_a_backend_gets_its_share_of_what_is_left() -> None:
    assert share(100.0, 40.0, 1, 3) == 20
    assert share(100.0, 40.0, 3, 3) == 60
    assert share(None, 40.0, 1, 3) is None


def test_what_is_planned_and_the_starts_must_end_before_the_deadline() -> None:
    assert not budget().spent(90.0, 0)
    assert budget().spent(90.1, 0)
    slow = budget(start_seconds=10.0)
    assert not slow.spent(30.0, 2)  # 3 passes of either library.
    assert slow.spent(30.1, 2)
    assert not slow.spent(90.0, 0)


def test_without_a_deadline_nothing_is_ever_spent_nor_dropped() -> None:
    endless = budget(None, start_seconds=10.0)
    endless.extend(5.0)
    assert endless.deadline is None
    assert not endless.spent(1e9, 2)
    assert endless.half(10.0) == 0
    assert endless.lasts_for(10.0, 1e9, 1, 2) is None
    assert endless.until_outputs(10.0) is None


def test_what_is_paid_apart_is_given_back() -> None:
    paid = budget()
    paid.extend(50.0)
    assert paid.deadline == 150
    assert paid.half(10.0) == 70


@pytest.mark.parametrize(("fewest", "most", "planned"), [(1, 24, 3), (1, 2, 2), (6, 24, 6), (6, 3, 6)])
def test_passes_are_planned_as_usual_unless_more_are_asked_for_or_fewer_allowed(fewest, most, planned) -> None:
    assert budget(fewest=fewest, most=most).planned_passes == planned


def test_the_fewest_passes_never_fall() -> None:
    pairs = budget()
    pairs.raise_fewest(7)
    pairs.raise_fewest(3)
    assert pairs.fewest == pairs.planned_passes == 7


def test_a_comparison_costs_rounds_of_both_and_preparing_again_in_every_pass() -> None:
    each = 5.0 + 2.5 + PREPARING_AGAIN * 8.0
    assert budget().cost([5.0, 2.5], 8.0, 1) == pytest.approx(3 * each)
    assert budget().cost([5.0, 2.5], 8.0, 2) == pytest.approx(6 * each)


def test_time_lasts_for_as_many_as_the_passes_and_their_starts_leave() -> None:
    assert budget().lasts_for(10.0, 3.0, 1, 1) == 15  # 90 s for 2 more passes of 3 s each.
    assert budget(start_seconds=9.0).lasts_for(10.0, 3.0, 1, 1) == 12  # 2 passes are started,
    assert budget(start_seconds=9.0).lasts_for(10.0, 3.0, 1, 2) == 9  # or 2 of either library.
    assert budget().lasts_for(95.0, 3.0, 9, 1) == 1  # What was planned is over: one more pass.
    assert budget().lasts_for(200.0, 3.0, 1, 1) == 0


def test_outputs_have_a_tenth_of_the_time_that_is_left_and_a_few_seconds_in_any_case() -> None:
    assert budget().until_outputs(10.0) == pytest.approx(10 + 0.1 * 90)
    assert budget(12.0).until_outputs(10.0) == 13
    assert budget().until_outputs(99.0) == 102
    assert budget().until_outputs(200.0) == 203  # Though all of it is spent.


def test_what_time_left_out_is_undecided_for_that_reason() -> None:
    late = out_of_time("tuned", "tuning budget")
    assert (late.code, late.reason.code) == (Code.UNDECIDED, ReasonCode.TIME_BUDGET)
    assert late.reason.text == "the tuning budget ended before this was tuned"
    assert (late.verdict.code, late.verdict.reason, late.verdict.ratio) == (late.code, late.reason, None)
