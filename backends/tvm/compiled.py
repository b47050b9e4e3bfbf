"""A compiled subject of TVM's, as it is loaded into a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, kept_channels


@dataclass(frozen=True)
class Compiled:
    """The library of a problem, its plan, and what else was kept `about` it.

    `shape` is the problem that the library computes: a larger one where the subject is padded.
    """

    path: Path
    plan: Plan
    problem: ConvProblem
    shape: ConvProblem
    about: Mapping[str, Any]

    @property
    def kept_channels(self) -> list[int]:
        """Return the channels of the library's output that are the problem's."""
        return kept_channels(self.shape, self.problem)[1]
