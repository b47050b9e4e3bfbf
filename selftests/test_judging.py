"""When a campaign has seen enough of a comparison: what a later pass must confirm, and what counts without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.judging import settled
from neverslower.campaign.resume import load
from neverslower.campaign.settings import Settings
from neverslower.evidence.observation import PairedPass
from neverslower.files.journal import Journal
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from selftests import in_process
from selftests.support import comparison, fake_passes, layers, scripted

FAMILY = 100


def verdict(code: Code) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, f"judged {code}"))


@dataclass(frozen=True)
class Scripted:
    """Judges by the number of passes: `codes` says what so many of them prove, None where more could tell.

    `confirming` are the passes, counted from 1, that show by themselves what those before them have proved.
    """

    codes: tuple[Code | None, ...]
    confirming: frozenset[int] = frozenset()
    most_passes: int = 6

    def fewest_passes(self, comparisons: int) -> int:
        return 1

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        return verdict(self.codes[len(passes) - 1] or Code.UNDECIDED)

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        return None, None

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        return bool(passes) and self.codes[len(passes) - 1] is not None

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        assert not any(later is earlier for earlier in passes), "what proves it can't confirm it"
        assert self(passes, comparisons).code is Code.SLOWER
        return verdict(Code.SLOWER if len(passes) + 1 in self.confirming else Code.UNDECIDED)


PASSES = fake_passes(number=8)
SLOWER, SAME = Code.SLOWER, Code.SAME


def decisions(judge: Scripted) -> list[Code | None]:
    """What is decided after each pass."""
    found = [settled(judge, PASSES[:number], FAMILY) for number in range(1, len(judge.codes) + 1)]
    return [None if judged is None else judged.verdict.code for judged in found]


def test_what_more_passes_may_decide_is_not_settled() -> None:
    assert settled(Scripted((None,)), [], FAMILY) is None
    assert decisions(Scripted((None, None, None))) == [None] * 3


@pytest.mark.parametrize("code", [Code.SAME, Code.FASTER, Code.UNDECIDED, Code.INVALID])
def test_what_is_not_slower_needs_no_later_pass(code: Code) -> None:
    judged = settled(Scripted((code,)), PASSES[:1], FAMILY)
    assert judged is not None
    assert judged.verdict == verdict(code)
    assert judged.first is None
    assert judged.confirmation is None


def test_a_slower_counts_once_a_later_pass_has_shown_it_again() -> None:
    judge = Scripted((None, SLOWER, SLOWER), frozenset({2, 3}))
    assert decisions(judge) == [None, None, SLOWER]
    judged = settled(judge, PASSES[:3], FAMILY)
    assert judged is not None
    assert judged.first == judge(PASSES[:2], FAMILY)
    assert judged.confirmation is PASSES[2]


def test_a_first_pass_never_confirms_itself() -> None:
    assert decisions(Scripted((SLOWER, SLOWER), frozenset({1, 2}))) == [None, SLOWER]


def test_a_later_pass_that_does_not_show_it_does_not_count_and_the_next_tries_again() -> None:
    assert decisions(Scripted((SLOWER, SLOWER, SLOWER, SLOWER), frozenset({4}))) == [None, None, None, SLOWER]


def test_a_pass_confirms_only_what_those_before_it_have_proved() -> None:
    """After the second pass nothing was proved any more, so that the third proves it and can't confirm it."""
    assert decisions(Scripted((SLOWER, None, SLOWER, SLOWER), frozenset({3, 4}))) == [None, None, None, SLOWER]
    assert decisions(Scripted((SLOWER, SAME), frozenset({2}))) == [None, SAME]


def test_what_no_pass_of_the_budget_has_confirmed_is_undecided() -> None:
    judge = Scripted((SLOWER,) * 7)
    assert decisions(judge) == [None] * 6 + [Code.UNDECIDED]
    judged = settled(judge, PASSES[:7], FAMILY)
    assert judged is not None
    assert judged.verdict.reason.code is ReasonCode.NOT_CONFIRMED
    assert "no later process confirmed it" in judged.verdict.reason.text
    assert judged.first == verdict(SLOWER)
    assert judged.confirmation is None


def test_what_the_last_pass_of_the_budget_proves_has_one_more_to_confirm_it() -> None:
    codes = (None,) * 5 + (SLOWER, SLOWER)
    assert decisions(Scripted(codes, frozenset({7}))) == [None] * 6 + [SLOWER]
    assert decisions(Scripted(codes)) == [None] * 6 + [Code.UNDECIDED]


# With the judge that campaigns have


def first_settled(passes: Sequence[PairedPass]) -> tuple[int, Any]:
    """(the number of passes after which it is settled, how)."""
    judge = SequentialJudge()
    return next(
        (number, judged)
        for number in range(1, len(passes) + 1)
        if (judged := settled(judge, passes[:number], FAMILY)) is not None
    )


def test_noise_that_is_the_same_is_settled_as_soon_as_that_is_proved() -> None:
    judge, passes = SequentialJudge(), fake_passes(number=24)
    number, judged = first_settled(passes)
    assert judged.verdict.code is Code.SAME
    assert not judge.enough(passes[: number - 1], FAMILY)


def test_a_clear_slowdown_is_settled_one_pass_after_it_is_proved() -> None:
    judge, passes = SequentialJudge(), fake_passes(1.3, number=24)
    proved = next(number for number in range(1, 25) if judge.enough(passes[:number], FAMILY))
    number, judged = first_settled(passes)
    assert number == proved + 1
    assert judged.verdict == judge.confirmed(passes[:proved], passes[proved], FAMILY)
    assert judged.verdict.code is Code.SLOWER


def test_a_slowdown_that_one_pass_hides_is_settled_by_a_later_one() -> None:
    judge, passes = SequentialJudge(), fake_passes(1.3, number=24)
    proved = next(number for number in range(1, 25) if judge.enough(passes[:number], FAMILY))
    hidden = [*passes[:proved], fake_passes(0.99, seed=1)[0], *passes[proved + 1 :]]
    number, judged = first_settled(hidden)
    assert number > proved + 1
    assert judged.verdict.code is Code.SLOWER
    assert np.array_equal(judged.confirmation.seconds, hidden[number - 1].seconds)


@dataclass(frozen=True)
class Noting(SequentialJudge):
    """Notes among how many comparisons it is asked to judge."""

    families: set[int] = field(default_factory=set)

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        self.families.add(comparisons)
        return super().__call__(passes, comparisons)

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        return None, None

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        self.families.add(comparisons)
        return super().enough(passes, comparisons)

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        self.families.add(comparisons)
        return super().confirmed(passes, later, comparisons)


def test_the_family_is_all_that_the_run_asks_at_every_look_and_when_it_goes_on(tmp_path: Path) -> None:
    """Whatever is refused, decided by now, or on another backend; not the layers, nor what is left."""
    rules = [
        {"seconds": 1e-5},
        {"when": "out_channels == 15", "times": 2.0},
        {"when": "out_channels == 9", "fault": "unsupported"},
    ]
    spec, path = scripted(tmp_path, noise=0.01, rules=rules), tmp_path / "journal"
    mine = [comparison(distance, unpruned) for unpruned in layers(2) for distance in (1, 3, 7)]
    asked = [*mine, *(replace(one, backend="second") for one in mine[:2])]
    settings = Settings(explain_budget=0.0)  # Causes are judged apart, and make nothing red.
    for resumes in (False, True):
        judge = Noting()
        recorded, journal = load(path) if resumes else None, Journal(path)
        specs = {"scripted": spec, "second": spec}
        findings = Campaign(specs, settings, journal, judge, recorded=recorded, start=in_process.start).run(asked)
        journal.close()
        assert len(findings.results) == len(asked)
        assert judge.families == {len(asked)}
