"""Reads what an interrupted run left in its journal, so that another one goes on from there and measures less."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from neverslower.campaign.doubt import WatchedDevice
from neverslower.campaign.findings import Identity
from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Examined, PairedPass
from neverslower.files.journal import BEFORE, replay
from neverslower.judge.failure import Failure
from neverslower.judge.pooled import Scatter
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Thresholds
from neverslower.problem.compared import Compared

MUST_EQUAL = ("preset", "blocks", "seed", "against")
"""Settings that decide what a pass is; with others, what was measured would be something else."""


@dataclass
class Recorded:
    """Holds raw observations of an earlier run, by what they are about; its verdicts are not kept, and are drawn again.

    `agreements` are (deviation, tolerance) of outputs. Of another library it is kept what `crashed`, and why it was
    lost on the way (`alone`, see Findings); `turns` says after how many blocks both took turns, 0 where they were
    measured one after the other. `pooled` names the backends that were judged by all their layers too, with the stored
    scatter that it was done by, if any. `numbers` are those that a comparison's next pass has in the journal, where an
    earlier run has written any: none is given twice.
    """

    path: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    examined: dict[tuple[str, str], Examined | Failure] = field(default_factory=dict)
    passes: dict[tuple[Identity, int], PairedPass] = field(default_factory=dict)
    rechecks: dict[Identity, PairedPass | Failure] = field(default_factory=dict)
    agreements: dict[Identity, tuple[float, float]] = field(default_factory=dict)
    names: dict[Identity, str] = field(default_factory=dict)
    before: Recorded | None = None
    watched: dict[str, WatchedDevice] = field(default_factory=dict)
    crashed: set[Identity] = field(default_factory=set)
    alone: dict[str, str] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    pooled: dict[str, Scatter | None] = field(default_factory=dict)
    numbers: dict[Identity, int] = field(default_factory=dict)

    @property
    def of_the_other(self) -> Recorded:
        """Return what was recorded of the library that was measured beside."""
        self.before = self.before or Recorded(self.path)
        return self.before

    @property
    def thresholds(self) -> Thresholds:
        """Return the lines that its verdicts were drawn along; the first journals were all of the standard ones."""
        return replace(STANDARD, family_error=self.settings.get("family_error", STANDARD.family_error))

    @property
    def in_order(self) -> dict[Identity, list[PairedPass]]:
        """Return the passes of each comparison, in the order in which they were taken."""
        passes: dict[Identity, list[PairedPass]] = {}
        for identity, number in sorted(self.passes, key=lambda key: key[1]):
            passes.setdefault(identity, []).append(self.passes[identity, number])
        return passes

    def forget(self) -> None:
        """Drop what was collected: what follows in the journal was measured in another way, or elsewhere."""
        self.examined.clear()
        self.passes.clear()
        self.rechecks.clear()
        self.agreements.clear()
        self.watched.clear()
        self.crashed.clear()
        self.turns.clear()
        self.pooled.clear()
        if self.before:
            self.before.forget()

    def reused(self, comparisons: Iterable[Compared]) -> str:
        """Return in words how much of this a run of these comparisons need not measure again."""
        asked = {comparison.identity for comparison in comparisons}
        passes = [identity for identity, _ in self.passes if identity in asked]
        had = f"{len(set(passes)):,} of {counted(len(asked), 'comparison')}"
        taken = counted(len(passes), "pass", "passes")
        return f"resumed {self.path}: measured before, and not repeated: {had}, in {taken}"

    def require_backends(self, asked: Collection[str]) -> None:
        """Raise NeverSlowerError where this is a run of other backends alone."""
        if not set(asked) & set(self.fingerprints):
            theirs, ours = ", ".join(self.fingerprints), ", ".join(asked) or "none"
            text = f"--resume {self.path}: a run of {theirs}, and this one is of {ours}; give it the same --backend"
            raise NeverSlowerError(f"{text}, or leave --resume out to begin anew")

    def require_settings(self, now: Mapping[str, Any]) -> None:
        """Raise NeverSlowerError where this run measures in another way."""
        for name in MUST_EQUAL:
            if self.settings and _setting(self.settings, name) != now[name]:
                raise NeverSlowerError(
                    f"--resume {self.path}: it was measured with --{name} {self.settings.get(name)}, "
                    f"this run has {now[name]}; give it the same options"
                )

    def require_device(self, now: Fingerprint) -> None:
        """Raise NeverSlowerError where the device, its state or its software differ from those of the journal."""
        then = self.fingerprints.get(now.backend)
        differing = now.changes(then) if then else []
        if differing:
            raise NeverSlowerError(f"--resume {self.path}: it was measured elsewhere: {'; '.join(differing)}")

    def require_turns(self, backend: str, now: int) -> None:
        """Raise NeverSlowerError where two libraries were set beside each other in another way."""
        then = self.turns.get(backend, now)
        if then != now:
            raise NeverSlowerError(
                f"--resume {self.path}: both libraries took turns after {then} blocks (0: after all), now after {now}; "
                "give it the same options, or begin anew"
            )

    def require_state(self, backend: str, now: State | None) -> None:
        """Raise NeverSlowerError where the device's settings are others than when the journal began."""
        then = self.watched.get(backend)
        if then and now and (changes := then.changes(now)):
            raise NeverSlowerError(f"--resume {self.path}: the device was in another state: {'; '.join(changes)}")

    def drop_doubtful(self) -> None:
        """Leave out what was measured when the device's state had changed: it is to be measured again."""
        for label, identity, number in {measured for device in self.watched.values() for measured in device.doubtful}:
            recorded = self.of_the_other if label == BEFORE else self
            if number is not None:
                recorded.passes.pop((identity, number), None)
            recorded._forget_later(identity)

    def drop_half_pairs(self) -> None:
        """Leave out passes without a partner of the other library, unless it can't do that: a pair is one moment's."""
        if self.before is None:
            return
        for one, partner in ((self, self.before), (self.before, self)):
            for identity, number in one.passes.keys() - partner.passes.keys():
                if one is self and self.before._refuses(identity):
                    continue
                del one.passes[identity, number]
                self._forget_later(identity)
                self.before._forget_later(identity)

    def close_gaps(self) -> None:
        """Number each comparison's passes from 0 on, in their order: what was dropped leaves gaps."""
        for recorded in (self, self.before) if self.before else (self,):
            in_order = recorded.in_order
            recorded.passes = {(one, place): each for one in in_order for place, each in enumerate(in_order[one])}
            recorded.numbers = dict(self.numbers)

    def _forget_later(self, identity: Identity) -> None:
        """Drop what is measured after all passes: it must be measured after those that are taken anew."""
        self.rechecks.pop(identity, None)

    def _refuses(self, identity: Identity) -> bool:
        """Return whether a library can't do one of both problems, or gave wrong outputs."""
        backend, *keys = identity
        answers = [self.examined.get((backend, key)) for key in keys]
        return any(isinstance(answer, Failure) or (answer is not None and answer.wrong) for answer in answers)


def load(path: Path, named: str = "--resume ") -> Recorded:
    """Read a journal; lines that were cut short are left out. Raises NeverSlowerError that names what is wrong."""
    recorded = read(path, named)
    if not recorded.fingerprints:
        raise NeverSlowerError(f"{named}{path}: it holds no run of never-slower; name the journal of one")
    return recorded


def read(path: Path, named: str = "--resume ") -> Recorded:
    """Read a journal as `load` does, and allow that it ended before the first device was known."""
    recorded = Recorded(path)
    replay(path, partial(_add, recorded), named)
    return recorded


def read_if_any(path: Path) -> Recorded | None:
    """Read a journal as `read` does; None where it is not there, or ended before the first device was known."""
    if not (path.exists() and path.stat().st_size):
        return None
    recorded = read(path)
    return recorded if recorded.fingerprints else None


def _add(whole: Recorded, line: Mapping[str, Any]) -> None:
    kind = line["event"]
    recorded = whole.of_the_other if line.get("side") == BEFORE else whole
    if kind == "campaign":
        if recorded.settings and any(_setting(recorded.settings, name) != _setting(line, name) for name in MUST_EQUAL):
            recorded.forget()
        recorded.settings = line
    elif kind == "fingerprint":
        now = Fingerprint.from_dict({name: line[name] for name in Fingerprint.__dataclass_fields__})
        then = recorded.fingerprints.get(now.backend)
        if then and now.changes(then):
            whole.forget()
        recorded.fingerprints[now.backend] = now
        recorded.alone.pop(now.backend, None)
    elif kind == "examined":
        if examined := _examined(line):
            recorded.examined[line["backend"], line["problem"]] = examined
    elif kind == "pooled":
        stored = line["stored"]
        recorded.pooled[line["backend"]] = Scatter.from_dict(stored) if stored else None
    elif kind in ("beside", "lost", "verdict"):
        _add_beside(recorded, line)
    elif kind == "state":
        whole.watched.setdefault(line["backend"], WatchedDevice()).look(line)
    elif kind == "measured":
        recorded.passes[_identity(line), line["pass"]] = PairedPass.from_record(line)
        whole.numbers[_identity(line)] = max(whole.numbers.get(_identity(line), 0), line["pass"] + 1)
        _watched(whole, line, line["pass"])
        recorded.names[_identity(line)] = line["id"]
    elif kind == "agreement" and line.get("error") is not None:
        recorded.agreements[_identity(line)] = line["error"], line["tolerance"]
    else:
        _add_later(whole, recorded, line)


def _add_later(whole: Recorded, recorded: Recorded, line: Mapping[str, Any]) -> None:
    """Take in what is measured after all passes."""
    if line["event"] == "rechecked" and "seconds" in line:
        recorded.rechecks[_identity(line)] = PairedPass.from_record(line)
    elif line["event"] == "confirmed":
        # Older runs confirmed after all passes, in a process of its own: that is one more pass.
        identity = _identity(line)
        number = 1 + max((taken for one, taken in recorded.passes if one == identity), default=-1)
        recorded.passes[identity, number] = PairedPass.from_record(line)
        _watched(whole, line, number)


def _add_beside(recorded: Recorded, line: Mapping[str, Any]) -> None:
    """Take in how two libraries are measured, and what one can't do; of that under test nobody asks for it."""
    kind = line["event"]
    if kind == "beside":
        recorded.turns[line["backend"]] = line["turns"]
    elif kind == "lost":
        recorded.alone[line["backend"]] = line["reason"]
    elif Code(line["code"]) is Code.CRASHED:
        recorded.crashed.add(_identity(line))
    else:
        recorded.crashed.discard(_identity(line))


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting of a journal; those from before --against were of one library."""
    return settings.get(name, "" if name == "against" else None)


def _watched(whole: Recorded, line: Mapping[str, Any], number: int | None) -> None:
    measured = line.get("side", ""), _identity(line), number
    whole.watched.setdefault(line["backend"], WatchedDevice()).measured(measured)


def _identity(line: Mapping[str, Any]) -> Identity:
    return line["backend"], line["reference"], line["candidate"]


def _examined(line: Mapping[str, Any]) -> Examined | Failure | None:
    """Return what was found of a subject; a crash is not taken for granted, and tried again."""
    if "plan" in line:
        return Examined.from_dict({name: line[name] for name in Examined.__dataclass_fields__ if name in line})
    code, reason = Code(line["code"]), line["reason"]
    return None if code is Code.CRASHED else Failure(code, Reason(ReasonCode(reason["code"]), reason["text"]))
