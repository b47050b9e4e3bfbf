"""What is stored of a run, and reading JSON that anybody may have edited: each field has its kind, or it is told."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence, Plan
from neverslower.files.fields import field, finite, word
from neverslower.judge.change import PassSpread
from neverslower.judge.verdict import Code, Interval, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side

SHORTEST, LONGEST = 1e-12, 1e6
"""Seconds that a call may be stored to take: from the last digit that is kept to more than any call takes."""


@dataclass(frozen=True)
class Known:
    """What the accepted baseline says of one comparison."""

    code: Code
    ratio: Interval | None


@dataclass(frozen=True)
class Entry:
    """One stored comparison: the identity, the label of its layer, its plan, and its verdict.

    Of a time there are its `levels` in each pass, of exact evidence the `instructions` where they were counted.
    """

    name: str
    layer: str
    reference: str
    candidate: str
    side: Side
    plan: Plan
    levels: tuple[float, ...]
    known: Known
    instructions: int | None = None

    @property
    def label(self) -> str:
        """What stands in the brackets of its test's name; nothing where there are none."""
        return label_of(self.name)


@dataclass(frozen=True)
class Baseline:
    """A stored run of one backend on one device, with one kind of evidence.

    `beside` is the spec of the other library where nothing is stored: it was measured in this very run, in pairs of
    passes.
    """

    path: Path
    fingerprint: Fingerprint
    entries: Mapping[tuple[str, str], Entry]
    evidence: Evidence = Evidence.DEVICE_TIME
    beside: str = ""

    def entry(self, comparison: Comparison) -> Entry | None:
        """What is stored of a comparison."""
        return self.entries.get((comparison.reference.key, comparison.candidate.key))

    @cached_property
    def spread(self) -> PassSpread:
        """How far the stored run's passes scatter."""
        return PassSpread.of({key: entry.levels for key, entry in self.entries.items()})


def label_of(test: str) -> str:
    """`onednn-resnet50.L16-float32-NCHW-out127` of a test's name that ends in it, in brackets."""
    return test.partition("[")[2].removesuffix("]")


# Writing


def about(comparison: Comparison) -> dict[str, Any]:
    """What names a comparison in every format, as plain data."""
    return {
        "layer": comparison.layer.name,
        "places": list(comparison.layer.places),
        "problem": comparison.candidate.key,
        "unpruned": comparison.reference.key,
        "side": str(comparison.side),
        "distance": comparison.distance,
    }


def verdict_of(verdict: Verdict) -> dict[str, Any]:
    """What every format says of a verdict, as plain data."""
    ratio = verdict.ratio
    return {
        "code": str(verdict.code),
        "reason": str(verdict.reason.code),
        "text": verdict.reason.text,
        "ratio": [ratio.estimate, ratio.low, ratio.high] if ratio else None,
    }


# Reading


def entry_of(
    info: Mapping[str, Any], name: str, plan: Plan, levels: tuple[float, ...] = (), instructions: int | None = None
) -> Entry:
    """The inverse of `about` and `verdict_of`, with what each format has of its own."""
    verdict = field(info, "verdict", dict)
    return Entry(
        name=name,
        layer=word(info, "layer"),
        reference=_key(info, "unpruned"),
        candidate=_key(info, "problem"),
        side=Side(word(info, "side")),
        plan=plan,
        levels=levels,
        known=Known(Code(word(verdict, "code")), _ratio(verdict)),
        instructions=instructions,
    )


def _key(info: Mapping[str, Any], name: str) -> str:
    """A problem's name that can be read."""
    key = word(info, name)
    ConvProblem.from_key(key)
    return key


def _ratio(verdict: Mapping[str, Any]) -> Interval | None:
    """The ratio of two possible times, with its interval."""
    if verdict.get("ratio", ()) is None:
        return None
    stored = field(verdict, "ratio", list)
    ratio = [finite("ratio", value) for value in stored]
    if len(ratio) != 3 or not SHORTEST / LONGEST <= ratio[1] <= ratio[0] <= ratio[2] <= LONGEST / SHORTEST:
        raise ValueError(f"ratio is {reprlib.repr(stored)}")
    return Interval(*ratio)
