"""Each subject is examined once, by itself or with others; whose a failure is that several share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neverslower.campaign.examiner import Answer, Examiner
from neverslower.evidence.observation import Examined, Plan
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode

KEYS = ["a", "b", "c"]


def found(name: str, error: float = 0.0) -> Examined:
    return Examined(Plan(name), error, 1e-4, 1e-3)


def crash(subject: str = "") -> Failure:
    return Failure(Code.CRASHED, Reason(ReasonCode.WORKER_DIED, "it died"), subject)


class Scripted:
    """A worker that gives one answer after another to requests, and notes what it is asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[str | list[str]] = []
        self.noted: list[str] = []

    def examine(self, key: str) -> Any:
        """The next answer."""
        self.asked.append(key)
        return self._answers.pop(0)

    def examine_together(self, keys: Sequence[str]) -> Any:
        """The next answer."""
        self.asked.append(list(keys))
        return self._answers.pop(0)

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """Answer as a library does."""
        return question(self)

    def note(self, key: str, answer: Answer) -> None:
        """Take down of what there was an answer."""
        self.noted.append(key)


def examiner(worker: Scripted, **recorded: Answer) -> Examiner:
    return Examiner(worker.ask, worker.note, recorded)


def test_a_subject_is_asked_for_once() -> None:
    worker = Scripted(found("plan"))
    one = examiner(worker)
    assert one.examine("a") == one.examine("a") == one.found("a") == found("plan")
    assert (worker.asked, worker.noted) == (["a"], ["a"])
    assert one.found("b") is None


def test_a_wrong_output_can_t_be_timed() -> None:
    one = examiner(Scripted(found("plan", error=1.0)))
    answer = one.examine("a")
    assert isinstance(answer, Failure)
    assert answer.code is Code.INVALID
    assert one.found("a") is None


def test_what_an_earlier_run_found_is_neither_asked_for_nor_written_again() -> None:
    worker = Scripted()
    one = examiner(worker, a=found("before"), b=found("before", error=1.0))
    one.examine_together(["a", "b"])
    assert not one.examined
    assert one.recall(["a", "b", "c"]) == ["c"]
    assert one.examine("a") == found("before")
    assert isinstance(one.examine("b"), Failure)
    assert (worker.asked, worker.noted) == ([], [])


def test_several_are_asked_for_in_one_request_and_one_by_itself() -> None:
    worker = Scripted([found("a"), found("b")])
    one = examiner(worker)
    one.examine_together(["a", "b"])
    one.examine_together(["b", "c"])  # One that is left is asked for when it is needed.
    assert worker.asked == [["a", "b"]]
    assert (one.found("a"), one.found("b"), one.found("c")) == (found("a"), found("b"), None)


def test_one_that_ends_the_worker_is_left_out_of_the_next_request() -> None:
    worker = Scripted(crash("b"), [found("a"), found("c")])
    one = examiner(worker)
    one.examine_together(KEYS)
    assert worker.asked == [KEYS, ["a", "c"]]
    assert one.examined == {"b": crash("b"), "a": found("a"), "c": found("c")}
    assert worker.noted == ["b", "a", "c"]


def test_where_nobody_knows_which_one_did_each_is_asked_for_by_itself() -> None:
    worker = Scripted(crash(), found("a"), crash("b"), found("c"))
    one = examiner(worker)
    one.examine_together(KEYS)
    assert worker.asked == [KEYS, *KEYS]
    assert one.examined == {"a": found("a"), "b": crash("b"), "c": found("c")}


def test_a_crash_that_none_shows_again_is_the_first_one_s() -> None:
    one = examiner(Scripted(crash(), *map(found, KEYS)))
    one.examine_together(KEYS)
    assert one.examined == {"a": crash(), "b": found("b"), "c": found("c")}
