"""What a worker is asked to prepare: a problem, and the policy by which the library is to choose a plan for it.

An empty policy is the backend's default. Other policies are the backend's own words. Those of a compiler that
searches for schedules are written and read here, since a study of tuned logs needs them before any library is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from neverslower.errors import InvalidProblem
from neverslower.problem.convolution import ConvProblem

BEST = "best"
"""The policy that takes the fastest of all plans that the library offers; backends that `explain` have it."""


@dataclass(frozen=True)
class Subject:
    """A problem under a policy; `key` names both, and is the problem's own key where the policy is the default."""

    problem: ConvProblem
    policy: str = ""

    @property
    def key(self) -> str:
        """Return a stable name that `from_key` reads."""
        return f"{self.problem.key} {self.policy}" if self.policy else self.problem.key

    @classmethod
    def from_key(cls, key: str) -> Subject:
        """Return the subject that a `key` names. Raises InvalidProblem."""
        problem, _, policy = key.partition(" ")  # A problem's key has no space.
        return cls(ConvProblem.from_key(problem), policy)


@dataclass(frozen=True)
class Search:
    """One search for a schedule: its problem, how many trials it makes, and its seed."""

    problem: ConvProblem
    trials: int
    seed: int

    def __str__(self) -> str:
        return f"{self.problem.key}/{self.trials}/{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Search:
        """Read what `str` wrote. Raises InvalidProblem."""
        match = re.fullmatch(r"(\S+)/(\d+)/(\d+)", text)
        if not match:
            raise InvalidProblem(f"{text!r} is not a search (KEY/TRIALS/SEED)")
        return cls(ConvProblem.from_key(match[1]), int(match[2]), int(match[3]))


@dataclass(frozen=True)
class TunedLog:
    """The policy of scheduling from the log of one search.

    If `padded`, the problem runs as the larger one that was searched, and the excess is cut off its output.
    """

    search: Search
    padded: bool = False

    def __str__(self) -> str:
        return f"{'padded' if self.padded else 'log'}:{self.search}"

    @classmethod
    def parse(cls, policy: str) -> TunedLog | None:
        """Return the policy that a text names, None for the empty one. Raises InvalidProblem."""
        if not policy:
            return None
        kind, _, search = policy.partition(":")
        if kind not in ("log", "padded"):
            raise InvalidProblem(f"{policy!r} is not a policy (log:SEARCH or padded:SEARCH)")
        return cls(Search.parse(search), kind == "padded")
