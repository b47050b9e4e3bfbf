"""Subjects: their keys and the policies in them can be read again, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.errors import InvalidProblem
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.subject import Search, Subject, TunedLog
from selftests.strategies import problems
from selftests.support import problem

KEY = problem().key
SEARCH = f"{KEY}/16/0"

searches = st.builds(Search, problems(), st.integers(1, 1000), st.integers(0, 2**31))
tuned_logs = st.builds(TunedLog, searches, st.booleans())


@given(problems(), st.sampled_from(["", " ", "heuristic", "log:x y", "ü\n"]))
def test_a_key_names_problem_and_policy(one: ConvProblem, policy: str) -> None:
    subject = Subject(one, policy)
    assert Subject.from_key(subject.key) == subject
    assert (subject.key == one.key) is (not policy)


@given(tuned_logs)
def test_searches_and_logs_are_read_again(log: TunedLog) -> None:
    assert Search.parse(str(log.search)) == log.search
    assert TunedLog.parse(str(log)) == log
    assert Subject.from_key(f"{KEY} {log}") == Subject(problem(), str(log))


def test_the_words_of_a_policy_are_stable() -> None:
    search = Search(problem(15), 16, 2)
    assert str(TunedLog(search)) == "log:mb1_g1ic8oc15_ih6oh6kh3sh1ph1-float32-NCHW/16/2"
    assert str(TunedLog(search, padded=True)) == "padded:mb1_g1ic8oc15_ih6oh6kh3sh1ph1-float32-NCHW/16/2"


def test_no_policy_is_no_tuned_log() -> None:
    assert TunedLog.parse("") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", KEY, f"{KEY}/16", f"{KEY}/16/", f"{KEY}//0", f"{KEY}/-1/0", f"{KEY}/16/-1", f"{KEY}/1.5/0", f"{KEY}/x/0"),
        *(f"{SEARCH}/", f"{SEARCH} ", f" {SEARCH}", f"{SEARCH}\n", "/16/0", "x/16/0", f"{KEY}x/16/0", SEARCH.upper()),
    ],
)
def test_what_is_no_search_is_refused(text: str) -> None:
    with pytest.raises(InvalidProblem):
        Search.parse(text)
    for kind in ("log", "padded"):
        with pytest.raises(InvalidProblem):
            TunedLog.parse(f"{kind}:{text}")


@pytest.mark.parametrize("text", ["log", "padded", "log:", ":", f"Log:{SEARCH}", f"best:{SEARCH}", SEARCH, KEY, " "])
def test_what_is_no_policy_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidProblem) as caught:
        TunedLog.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", f" {KEY}", f"x{KEY}", f"{KEY}x log:{SEARCH}", f"log:{SEARCH} {KEY}", "log"])
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(InvalidProblem):
        Subject.from_key(text)
