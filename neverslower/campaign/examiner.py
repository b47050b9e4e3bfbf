"""Examines the subjects of one library, each once, and keeps what was found of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neverslower.evidence.observation import Examined
from neverslower.judge.failure import Failure, or_wrong
from neverslower.judge.verdict import Code
from neverslower.worker.process import Worker

Answer = Examined | Failure
Ask = Callable[[Callable[[Worker], Any]], Any]
"""Puts a question to a library's worker; returns the answer, or a Failure where there is none."""
Note = Callable[[str, Answer], None]
"""Writes down what was found of a subject."""


class Examiner:
    """Asks for each subject once, and not for those of which an earlier run `recorded` what it found.

    `examined` holds by key what is known by now: what was found, or why a subject can't be timed.
    """

    def __init__(self, ask: Ask, note: Note, recorded: Mapping[str, Answer]) -> None:
        self._ask, self._note, self._recorded = ask, note, recorded
        self.examined: dict[str, Answer] = {}

    def found(self, key: str) -> Examined | None:
        """Return what was found of a subject; None for one that can't be timed, or was not examined."""
        answer = self.examined.get(key)
        return answer if isinstance(answer, Examined) else None

    def recall(self, keys: Sequence[str]) -> list[str]:
        """Take over what an earlier run found of these; return those of which nothing is known."""
        self.examined |= {key: or_wrong(self._recorded[key]) for key in keys if key in self._recorded}
        return [key for key in keys if key not in self.examined]

    def examine(self, key: str) -> Answer:
        """Return what is found of a subject, or why it can't be timed."""
        if key not in self.examined and self.recall([key]):
            self._keep(key, self._ask_of(key))
        return self.examined[key]

    def examine_together(self, keys: Sequence[str]) -> None:
        """Examine those of which nothing is known, in one request; one that ends the worker is left out of the next.

        Where nobody knows which one did, each is asked for by itself; what none of them shows again is the first one's.
        """
        unknown = [key for key in keys if key not in self.examined and key not in self._recorded]
        while len(unknown) > 1:
            answers = self._ask_together(unknown)
            if not isinstance(answers, Failure):
                for key, answer in zip(unknown, answers, strict=True):
                    self._keep(key, answer)
                return
            if answers.subject not in unknown:
                self._examine_alone(unknown, answers)
                return
            self._keep(answers.subject, answers)
            unknown.remove(answers.subject)

    def _examine_alone(self, keys: Sequence[str], together: Failure) -> None:
        """Ask for each by itself after all of them failed together."""
        answers = {key: self._ask_of(key) for key in keys}
        crashed = any(isinstance(answer, Failure) and answer.code is Code.CRASHED for answer in answers.values())
        if together.code is Code.CRASHED and not crashed:
            answers[keys[0]] = together
        for key, answer in answers.items():
            self._keep(key, answer)

    def _ask_together(self, keys: Sequence[str]) -> list[Answer] | Failure:
        answers: list[Answer] | Failure = self._ask(lambda worker: worker.examine_together(keys))
        return answers

    def _ask_of(self, key: str) -> Answer:
        answer: Answer = self._ask(lambda worker: worker.examine(key))
        return answer

    def _keep(self, key: str, answer: Answer) -> None:
        self.examined[key] = or_wrong(answer)
        self._note(key, self.examined[key])
