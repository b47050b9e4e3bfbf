"""What time is planned: arithmetic on a clock that stands still, without devices."""

from __future__ import annotations

import pytest

from neverslower.campaign.budget import Budget, Room, Work, out_of_time, share
from neverslower.judge.verdict import Code, ReasonCode


def budget(deadline: float | None = 100.0, **fields: float) -> Budget:
    """A budget whose clock says 10 s, with 2 passes at the least and 24 at most."""
    return Budget(lambda: 10.0, deadline, **({"fewest": 2, "most": 24} | fields))  # type: ignore[arg-type]


def test_a_backend_gets_its_share_of_what_is_left() -> None:
    assert share(100.0, 40.0, 1, 3) == 20
    assert share(100.0, 40.0, 3, 3) == 60
    assert share(None, 40.0, 1, 3) is None


def test_what_is_planned_must_end_before_the_deadline() -> None:
    assert not budget().spent(90.0)
    assert budget().spent(90.1)
    assert not budget().spent()
    assert budget(9.0).spent()


def test_without_a_deadline_nothing_is_ever_spent() -> None:
    endless = budget(None, start_seconds=10.0)
    endless.extend(5.0)
    assert endless.deadline is None
    assert endless.left == float("inf")
    assert not endless.spent(1e9)
    assert endless.half(10.0) == 0
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


@pytest.mark.parametrize(("usual", "fewest", "planned"), [(6, 1, 6), (7, 9, 9), (30, 1, 24)])
def test_a_judge_that_needs_more_passes_has_them_planned(usual, fewest, planned) -> None:
    assert budget(usual=usual, fewest=fewest).planned_passes == planned


def test_time_lasts_for_passes_their_starts_and_each_layers_reference_once() -> None:
    room = Room(100.0, start=5.0)
    assert room.take(Work("a", seconds=4.0, shared=6.0, passes=3))  # 12 s, 18 of the reference, 15 of starts.
    assert room.seconds == 55
    assert room.take(Work("a", seconds=4.0, shared=6.0, passes=2))  # Its reference and its processes are there.
    assert room.seconds == 47
    assert room.take(Work("b", seconds=1.0, shared=2.0, passes=4), besides=20.0)  # A pass more, and 20 s besides.
    assert room.seconds == 47 - 20 - 4 - 8 - 5
    assert not room.take(Work("c", seconds=2.6, shared=1.0, passes=3))
    assert room.seconds == 10  # Nothing is paid for what does not fit.
    assert room.take(Work("c", seconds=2.0, shared=1.0, passes=3))


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
