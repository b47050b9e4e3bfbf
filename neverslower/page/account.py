"""The account of one or more records: everything that a page shows, as one frozen value, and as plain data.

`document` is what `--verdicts` writes; docs/reference/verdicts.schema.json describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from neverslower import __version__
from neverslower.device.fingerprint import Fingerprint
from neverslower.enums import StrEnum
from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.verdict import Code
from neverslower.outcome.concluded import Concluded
from neverslower.outcome.tally import NEVER_BEGUN

FORMAT, SCHEMA = "never-slower verdicts", 1

Ratio = tuple[float, float, float]
"""A ratio with its interval: (estimate, low, high)."""
Five = tuple[float, ...]
"""Least, lower quartile, median, upper quartile and greatest of some numbers; empty where there are none."""
UNCONFIRMED, LEFT_OUT, NOT_JUDGED = "UNCONFIRMED", "LEFT_OUT", "NOT_JUDGED"
"""Words for three kinds of what is undecided: proved slower and not confirmed by a later process, never begun, and
measured without being judged, as everything in a survey.
"""
UNJUDGED = "not_judged"
"""The reason of what was measured and not judged."""


class Kind(StrEnum):
    """The kinds of record that an account is made from."""

    RUN = "run"
    JOURNAL = "journal"
    BASELINE = "baseline"
    MAP = "map"
    GRID = "grid"


@dataclass(frozen=True)
class Look:
    """One look at a device: when, in seconds since 1970 and in a word, its readings, and what was unsound."""

    time: float
    when: str
    readings: Mapping[str, float] = field(default_factory=dict)
    unsound: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """How finely a device could tell, by its layers against themselves; fractions, so 0.01 is 1 %.

    `mde` is the smallest slowdown that the preset's budget of `blocks` proves about every second time, `noise_floor`
    the gap that such a layer shows against itself; None where nothing can be proved. `slower` of the `comparisons`
    were false, before any confirmation: so at most a share of `slower_bound` is, with 95 % confidence.
    """

    date: str
    preset: str
    blocks: int
    comparisons: int
    slower: int
    slower_bound: float
    noise_floor: float | None = None
    mde: float | None = None


@dataclass(frozen=True)
class Source:
    """One backend of one record: its device, its software, how it was measured, and what became of the device.

    `before` says that it is the other library of a run with `--against`. `compared` is the number of the source that
    it is compared with, and `differs` names what is different there. `seconds` is what measuring took, `processes`
    how many processes measured, `discarded` how many blocks were dropped. `calibration` is the device's, where it has
    one that holds in its state.
    """

    name: str
    kind: Kind
    backend: str
    evidence: Evidence
    device: str
    version: str
    build: str = ""
    hardware: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    clock: str = ""
    cache: str = ""
    looks: tuple[Look, ...] = ()
    processes: int = 0
    discarded: int = 0
    seconds: float | None = None
    before: bool = False
    compared: int | None = None
    differs: tuple[str, ...] = ()
    calibration: Calibrated | None = None

    @classmethod
    def of(cls, fingerprint: Fingerprint, **more: Any) -> Source:
        """Return a source of the device and the software of a fingerprint."""
        return cls(**fingerprint.as_dict(), **more)

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint that it was made of."""
        return Fingerprint(
            self.backend, self.device, self.version, self.build, self.hardware, self.state, self.software
        )


def titled(source: Source) -> str:
    """Return a source as people name it: its software and its device."""
    return f"{source.backend} {source.version} on {source.device}"


@dataclass(frozen=True)
class Sampled:
    """What one process measured: seconds per call of either side, and the ratios of its blocks, as five numbers each.

    `process` counts the processes of a source from 0. What is not positive and finite leaves all fives empty.
    """

    process: int
    blocks: int
    reference: Five = ()
    candidate: Five = ()
    ratio: Five = ()
    discarded: int = 0


@dataclass(frozen=True)
class Cause:
    """Why something is slower: the cause, its evidence, the best plan's time over the unpruned one's, the remedy."""

    cause: str
    evidence: tuple[str, ...] = ()
    best: Ratio | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Since:
    """A channel count now against a baseline or another library: the verdict on its own time, new over old.

    `was` and `was_ratio` are what was known of pruned against unpruned then, and `what` says how the plan changed.
    """

    code: str
    text: str
    ratio: Ratio | None = None
    was: str = ""
    was_ratio: Ratio | None = None
    what: str = ""


@dataclass(frozen=True)
class Case:
    """One pruned layer against the unpruned one, of the source of that number.

    `problem` and `unpruned` are keys: descriptor, dtype, layout, and the epilogue where there is one. `channels` of
    `whole` are kept on the `side`. `reference_plan` and `plan` are numbers of plans. `amount` and `reference_amount`
    are median seconds per call, or instructions, as the source's evidence says. `finding` and `outcome` are what the
    run's tables made of the verdict, where they were asked, the gravest of all its items; `also` are the others.
    `proved` is what the passes of an undecided case prove, though no later process confirmed it.
    `again` is a command that measures this case again, `alone` one that prints a script that needs the library alone.
    """

    source: int
    id: str
    layer: str
    problem: str
    unpruned: str
    dtype: str
    layout: str
    side: str
    channels: int
    whole: int
    code: str
    reason: str = ""
    text: str = ""
    proved: str = ""
    ratio: Ratio | None = None
    noise_floor: float | None = None
    mde: float | None = None
    finding: str = ""
    outcome: str = ""
    also: tuple[Concluded, ...] = ()
    cause: Cause | None = None
    reference_plan: int | None = None
    plan: int | None = None
    reference_amount: float | None = None
    amount: float | None = None
    samples: tuple[Sampled, ...] = ()
    since: Since | None = None
    policies: tuple[str, str] | None = None
    marked: str = ""
    again: str = ""
    alone: str = ""


@dataclass(frozen=True)
class Whole:
    """A whole pruned network against its original, of the source of that number; `proved` is that of a case."""

    source: int
    id: str
    code: str
    reason: str = ""
    text: str = ""
    proved: str = ""
    ratio: Ratio | None = None


def counted_as(one: Case | Whole) -> str:
    """Return the word under which a verdict is counted, as a run's first sentence tells its lots apart."""
    if one.proved:
        return UNCONFIRMED
    if one.reason == UNJUDGED:
        return NOT_JUDGED
    return LEFT_OUT if one.code == Code.UNDECIDED and one.reason in NEVER_BEGUN else one.code


def in_words(word: str) -> str:
    """Return a verdict, or a word under which it is counted, as people read it."""
    return "slower, not confirmed" if word == UNCONFIRMED else word.replace("_", " ").lower()


@dataclass(frozen=True)
class LayerCosts:
    """What a layer costs over (input, output) channels, of the source of that number: estimates, and no verdicts.

    `costs` has a row for each of the `inputs`, and in it one for each of the `outputs`: seconds per call, or
    instructions; None where that pair was not measured. `whole` are the channels of the unpruned layer.
    """

    source: int
    layer: str
    unpruned: str
    whole: tuple[int, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    costs: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Advised:
    """The channel counts that a file of advice names for a layer on a device, by the unpruned problem's key."""

    name: str
    backend: str
    device: str
    layer: str
    unpruned: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One thing to do next: what it is good for, and how."""

    purpose: str
    how: str


@dataclass(frozen=True)
class Account:
    """Everything that a page shows: the verdict in a sentence first, then what it rests on.

    `verdict` and `exit_code` are those of a run, empty and None of anything else. Plans are stored once each, and
    cases refer to them by number, as they refer to their source.
    """

    sentence: str
    verdict: str = ""
    exit_code: int | None = None
    further: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    plans: tuple[Plan, ...] = ()
    cases: tuple[Case, ...] = ()
    wholes: tuple[Whole, ...] = ()
    grids: tuple[LayerCosts, ...] = ()
    advised: tuple[Advised, ...] = ()


def document(account: Account) -> dict[str, Any]:
    """Return an account as plain data for JSON; what is empty or unknown is left out."""
    return {"format": FORMAT, "schema": SCHEMA, "never_slower": __version__, **_plain(account)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return {name: _plain(held) for name, held in named.items() if not _is_left_out(held)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(held) for held in value]
    return value


def _is_left_out(held: object) -> bool:
    return held is None or (isinstance(held, (str, tuple, dict)) and not held)
