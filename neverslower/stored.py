"""What is stored of a run, and reading JSON that anybody may have edited: each field has its kind, or it is told."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from neverslower.comparison import Comparison
from neverslower.environment import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.observation import Evidence, Plan
from neverslower.outcome import Known
from neverslower.problem import ConvProblem, Side
from neverslower.regression import PassSpread
from neverslower.verdict import Code, Interval, Verdict

SHORTEST, LONGEST = 1e-12, 1e6
"""Seconds that a call may be stored to take: from the last digit that is kept to more than any call takes."""
T = TypeVar("T")


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


def read_json(path: Path, what: str, remedy: str, kind: type[NeverSlowerError]) -> Any:
    """The content of a JSON file; raises `kind`, naming what the file is, what is wrong with it and the remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=json_object)
    except OSError as error:
        raise kind(f"{what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise kind(f"{what} {path}: not whole JSON ({error}); {remedy}") from None


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no name may stand twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands twice in one object")
        if not name.isprintable():
            raise ValueError(f"{name!r} is no name")
        found[name] = value
    return found


def field(record: object, name: str, kind: type[T]) -> T:
    """A field of a JSON object; ValueError tells what is missing or of another kind."""
    if not isinstance(record, dict):
        raise ValueError(f"{reprlib.repr(record)} where an object with {name} belongs")
    if name not in record:
        raise ValueError(f"{name} is missing")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    if isinstance(value, str):
        value.encode()  # Half a surrogate pair could not be written anywhere.
    return value


def word(record: object, name: str) -> str:
    """A field that names something on one line."""
    value = field(record, name, str)
    if not value.isprintable():
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    return value


def values(record: object, name: str, kind: type[T]) -> list[T]:
    """A field that lists values of one kind."""
    return [field({name: value}, name, kind) for value in field(record, name, list)]


def finite(name: str, value: object) -> float:
    """A JSON number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    return float(value)


def fingerprint_of(prints: Mapping[str, Any], name: str) -> Fingerprint:
    """The stored fingerprint of a backend."""
    stored = field(prints, name, dict)
    if word(stored, "backend") != name:
        raise ValueError(f"the fingerprint of {name} says backend {stored['backend']}")
    for one in ("device", "version", "build"):
        word(stored, one)
    for group in ("hardware", "state", "software"):
        for one in field(stored, group, dict):
            field(stored[group], one, str)
    if unknown := set(stored) - set(Fingerprint.__dataclass_fields__):
        raise ValueError(f"the fingerprint of {name} has {', '.join(sorted(unknown))}")
    return Fingerprint.from_dict(stored)


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
