"""Stored runs as data, and what both file formats share in writing and reading them.

Anybody may have edited a file, so each field that is read must be of its kind; else ValueError names the field.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence, Plan, in_step
from neverslower.files.fields import field, finite, word
from neverslower.judge.change import PassSpread
from neverslower.judge.verdict import Code, Interval, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side

SHORTEST, LONGEST = 1e-12, 1e6
"""The shortest and the longest stored time of a call, in seconds: the last digit that is kept, and beyond any call."""


@dataclass(frozen=True)
class Known:
    """The accepted baseline's verdict on one comparison, with the ratio of candidate to reference where it has one."""

    code: Code
    ratio: Interval | None


@dataclass(frozen=True)
class Entry:
    """One stored comparison: its test's name, the keys of both problems, the candidate's plan, and the verdict.

    A time has `levels`, the candidate's log median of seconds in each pass, and `started`, when each pass's process
    began to load, None where that was not stored. Exact evidence has `instructions` where they were counted. It is
    `paired` where the candidate is a layer of a pruned model of the user's. `error` is that of the candidate's output
    against float64, as a fraction of its largest value; None where it was not checked.
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
    started: tuple[float | None, ...] = ()
    paired: bool = False
    error: float | None = None

    @property
    def label(self) -> str:
        """Return what stands in the brackets of the test's name, or an empty string."""
        return label_of(self.name)


@dataclass(frozen=True)
class Baseline:
    """A stored run of one backend on one device, with one kind of evidence.

    With `--against` nothing is stored: the other library was measured in the same run, in pairs of passes, and
    `beside` is its spec.
    """

    path: Path
    fingerprint: Fingerprint
    entries: Mapping[tuple[str, str], Entry]
    evidence: Evidence = Evidence.DEVICE_TIME
    beside: str = ""

    def entry(self, comparison: Comparison) -> Entry | None:
        """Return what is stored of a comparison, or None."""
        return self.entries.get((comparison.reference.key, comparison.candidate.key))

    @cached_property
    def spread(self) -> PassSpread:
        """Return how far the stored run's passes scatter; what they have in common is seen where they are the same."""
        started = {key: entry.started or (None,) * len(entry.levels) for key, entry in self.entries.items()}
        return PassSpread.of({key: self.entries[key].levels for key in in_step(started)})


def label_of(test: str) -> str:
    """Return the part in brackets of a test's name: `onednn-resnet50.L16-float32-NCHW-out127`."""
    return test.partition("[")[2].removesuffix("]")


# Writing


def about(comparison: Comparison) -> dict[str, Any]:
    """Return the fields that name a comparison in both formats, as plain data."""
    return {
        "layer": comparison.layer.name,
        "places": list(comparison.layer.places),
        "problem": comparison.candidate.key,
        "unpruned": comparison.reference.key,
        "side": str(comparison.side),
        "distance": comparison.distance,
        **({"paired": True} if comparison.paired else {}),
    }


def verdict_of(verdict: Verdict) -> dict[str, Any]:
    """Return the fields of a verdict in both formats, as plain data."""
    ratio = verdict.ratio
    return {
        "code": str(verdict.code),
        "reason": str(verdict.reason.code),
        "text": verdict.reason.text,
        "ratio": [ratio.estimate, ratio.low, ratio.high] if ratio else None,
    }


# Reading


def entry_of(
    info: Mapping[str, Any],
    name: str,
    plan: Plan,
    levels: tuple[float, ...] = (),
    instructions: int | None = None,
    started: tuple[float | None, ...] = (),
) -> Entry:
    """Read an entry from what `about` and `verdict_of` wrote; each format gives the rest.

    Raises ValueError, which names the field that is missing, of another kind, or impossible.
    """
    verdict = field(info, "verdict", dict)
    if not isinstance(paired := info.get("paired", False), bool):
        raise ValueError(f"paired is {reprlib.repr(paired)}")
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
        started=started,
        paired=paired,
        error=_error(info),
    )


def _error(info: Mapping[str, Any]) -> float | None:
    """Return the stored error of an output, None where none was. Raises ValueError where it is no error."""
    if info.get("output_error") is None:
        return None
    if (error := finite("output_error", info["output_error"])) < 0:
        raise ValueError(f"output_error is {error}")
    return error


def _key(info: Mapping[str, Any], name: str) -> str:
    """Return a field that holds a problem's key. Raises ValueError where it is no key."""
    key = word(info, name)
    ConvProblem.from_key(key)
    return key


def _ratio(verdict: Mapping[str, Any]) -> Interval | None:
    """Return the stored ratio with its interval, None where the verdict has none.

    Raises ValueError unless it is the ratio of two times that may be stored.
    """
    if verdict.get("ratio", ()) is None:
        return None
    stored = field(verdict, "ratio", list)
    ratio = [finite("ratio", value) for value in stored]
    if len(ratio) != 3 or not SHORTEST / LONGEST <= ratio[1] <= ratio[0] <= ratio[2] <= LONGEST / SHORTEST:
        raise ValueError(f"ratio is {reprlib.repr(stored)}")
    return Interval(*ratio)
