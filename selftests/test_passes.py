"""One pass of a layer's comparisons: which are timed together, and whose a failure is that none shows by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from neverslower.campaign.passes import BYTES_TOGETHER, MOST_TOGETHER, measure_pass, timed_together
from neverslower.campaign.settings import Settings
from neverslower.evidence.observation import PairedPass
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode
from neverslower.problem.comparison import Comparison
from selftests.support import comparison, fake_passes, problem

THREE = [comparison(distance) for distance in (1, 2, 3)]
KEYS = [one.keys[1] for one in THREE]


# Together


def test_so_many_of_a_layer_are_timed_together() -> None:
    layer = [comparison(1, problem(16)) for _ in range(2 * MOST_TOGETHER + 1)]
    groups = timed_together(layer)
    assert [len(group) for group in groups] == [MOST_TOGETHER, MOST_TOGETHER, 1]
    assert [one for group in groups for one in group] == layer
    assert timed_together([]) == []


def test_large_ones_are_timed_in_parts_each_with_the_reference() -> None:
    large = problem(64, in_channels=64, height=300, width=300)
    layer = [comparison(distance, large) for distance in range(1, 9)]
    groups = timed_together(layer)
    assert [one for group in groups for one in group] == layer
    assert 1 < len(groups) < len(layer)
    sizes = [layer[0].reference.bytes + sum(one.candidate.bytes for one in group) for group in groups]
    assert all(size <= BYTES_TOGETHER for size in sizes)
    # None of them would have had room for the next.
    assert all(size + after[0].candidate.bytes > BYTES_TOGETHER for size, after in zip(sizes, groups[1:], strict=False))


def test_what_is_too_large_is_timed_alone() -> None:
    huge = problem(64, in_channels=64, height=2000, width=2000)
    assert huge.bytes > BYTES_TOGETHER
    assert [len(group) for group in timed_together([comparison(1, huge), comparison(2, huge)])] == [1, 1]


# Whose failure it is


def failure(code: Code = Code.CRASHED, subject: str = "") -> Failure:
    why = ReasonCode.WORKER_DIED if code is Code.CRASHED else ReasonCode.LIBRARY_REFUSES
    return Failure(code, Reason(why, f"{code} of {subject or 'nobody'}"), subject)


class Fake:
    """A library that gives `together` to a sweep, and to each candidate alone what `alone` says, else a pass."""

    label, offers, lost, worker = "", frozenset[str](), None, None

    def __init__(self, together: Failure | None, alone: Mapping[str, Failure]) -> None:
        self._together, self._alone = together, alone
        self.recorded = SimpleNamespace(numbers={})
        self.samples: dict[Any, list[PairedPass]] = {}
        self.failed: dict[str, Failure] = {}
        self.asked: list[str] = []

    def waiting(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        return list(comparisons)

    def known(self, one: Comparison) -> None:
        return None

    def taken(self, one: Comparison) -> int:
        return len(self.samples.get(one.identity, ()))

    def sweep(self, reference: str, candidates: Sequence[str], sweeps: int, seed: str) -> list[PairedPass] | Failure:
        return self._together or fake_passes(number=len(candidates))

    def measure(self, one: Comparison, blocks: int, candidate_first: bool = False) -> PairedPass | Failure:
        self.asked.append(one.keys[1])
        return self._alone.get(one.keys[1]) or fake_passes(number=1)[0]

    def fail(self, one: Comparison, why: Failure) -> None:
        self.failed[one.keys[1]] = why

    def write_samples(self, *fields: Any) -> None:
        pass


def measured(together: Failure | None, alone: Mapping[str, Failure]) -> Fake:
    """The library after a pass of three comparisons."""
    guard = SimpleNamespace(look=lambda *_: None, measured=lambda *_: None)
    run: Any = SimpleNamespace(name="fake", other=None, settings=Settings(), spent=lambda: False, guard=guard)
    library: Any = Fake(together, alone)
    measure_pass(run, library, THREE, 0, SimpleNamespace(show=lambda *_: None))  # type: ignore[arg-type]
    assert len(library.samples) + len(library.failed) == len(THREE)
    return library  # type: ignore[no-any-return]


def test_what_is_timed_together_is_not_asked_again() -> None:
    library = measured(None, {})
    assert (library.failed, library.asked) == ({}, [])


def test_a_crash_that_nobody_shows_again_is_that_of_whom_the_process_was_preparing() -> None:
    crash = failure(subject=KEYS[1])
    assert measured(crash, {}).failed == {KEYS[1]: crash}


@pytest.mark.parametrize("subject", ["", THREE[0].keys[0]], ids=["unknown", "the reference"])
def test_a_crash_of_which_nobody_knows_whose_it_is_is_lost_by_none_and_one_has_it(subject: str) -> None:
    crash = failure(subject=subject)
    assert list(measured(crash, {}).failed.values()) == [crash]


@pytest.mark.parametrize("subject", ["", KEYS[1], KEYS[2]])
def test_a_crash_that_one_shows_alone_is_its_own_and_nobody_elses(subject: str) -> None:
    its_own = failure(subject="the one alone")
    assert measured(failure(subject=subject), {KEYS[2]: its_own}).failed == {KEYS[2]: its_own}


def test_a_refusal_of_another_one_explains_no_crash() -> None:
    crash, refusal = failure(subject=KEYS[1]), failure(Code.UNSUPPORTED)
    assert measured(crash, {KEYS[0]: refusal}).failed == {KEYS[0]: refusal, KEYS[1]: crash}


def test_a_refusal_together_is_nobodys_unless_shown_alone() -> None:
    """Nine of them may be too much for a device that holds any two."""
    refusal = failure(Code.UNSUPPORTED)
    library = measured(refusal, {})
    assert (library.failed, sorted(library.asked)) == ({}, sorted(KEYS))
    assert measured(refusal, {KEYS[0]: refusal}).failed == {KEYS[0]: refusal}
