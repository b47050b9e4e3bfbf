"""What a journal says of each comparison as it was decided then: verdict, plans, samples and cause, for reading on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence, Examined, PairedPass
from neverslower.files.journal import BEFORE, replay
from neverslower.judge.exact import judge_since
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.outcome.beside import plan_difference
from neverslower.outcome.rejudge import changes_of, comparison_of
from neverslower.outcome.upgrade import Change
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import is_network

_WITH_SAMPLES = ("measured", "drawn", "rechecked", "confirmed")

_FIRST = {"clock": "", "cache": "hot"}
"""What the first journals did not say of their samples."""


@dataclass
class Record:
    """One journal's comparisons of layers; of a run with --against those of the library under test, or of the `other`.

    `verdicts` are the last ones, `examined` is by backend and key, `samples` are of all processes in their order, and
    `explained` holds the fields of an Explanation as plain data.
    """

    path: Path
    other: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    comparisons: dict[Identity, Comparison] = field(default_factory=dict)
    verdicts: dict[Identity, Verdict] = field(default_factory=dict)
    examined: dict[tuple[str, str], Examined] = field(default_factory=dict)
    samples: dict[Identity, list[PairedPass]] = field(default_factory=dict)
    explained: dict[Identity, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        """Take in one event. Raises KeyError, TypeError or ValueError where it is malformed."""
        kind = line["event"]
        if kind == "campaign":
            self.settings = line
        if (line.get("side") == BEFORE) is not self.other:
            return
        if kind == "fingerprint":
            fields = {name: line[name] for name in Fingerprint.__dataclass_fields__ if name in line}
            self.fingerprints[line["backend"]] = Fingerprint.from_dict(fields)
        elif kind == "examined" and "plan" in line:
            fields = {name: line[name] for name in Examined.__dataclass_fields__ if name in line}
            self.examined[line["backend"], line["problem"]] = Examined.from_dict({"cache": {"kind": "hot"}, **fields})
        elif "reference" in line and "candidate" in line and not is_network(line["reference"]):
            self._take_comparison(kind, line)

    def _take_comparison(self, kind: str, line: Mapping[str, Any]) -> None:
        identity = line["backend"], line["reference"], line["candidate"]
        if kind == "verdict":
            self.comparisons[identity] = comparison_of(identity, line["id"])
            self.verdicts[identity] = _verdict(line)
        elif kind == "explained":
            self.explained[identity] = line
        elif kind in _WITH_SAMPLES and "seconds" in line:
            self.samples.setdefault(identity, []).append(PairedPass.from_record({**_FIRST, **line}))


def read(path: Path, other: bool = False) -> Record:
    """Read a journal. Raises NeverSlowerError, which says what is wrong in which line."""
    record = Record(path, other)
    replay(path, record.take, named="")
    return record


def changes_in(now: Record, before: Record) -> list[Change]:
    """Return what the library under test did to each channel count, against the other one of the same journal."""
    if before.samples:
        return changes_of(now.path, now.verdicts, before.verdicts).changes
    return list(_counted(now, before))


def _counted(now: Record, before: Record) -> Iterator[Change]:
    for identity, comparison in now.comparisons.items():
        key = comparison.backend, comparison.candidate.key
        new, old = now.examined.get(key), before.examined.get(key)
        if not (new and old and new.instructions and old.instructions and identity in before.verdicts):
            continue
        verdict = judge_since(Evidence.INSTRUCTIONS, old.plan, old.instructions, new)
        what = str(plan_difference(old.plan, new.plan))
        yield Change.of(comparison, verdict, before.verdicts[identity], now.verdicts[identity], what)


def _verdict(line: Mapping[str, Any]) -> Verdict:
    reason, ratio = line["reason"], line.get("ratio")
    return Verdict(
        Code(line["code"]),
        Reason(ReasonCode(reason["code"]), reason["text"]),
        Interval(**ratio) if ratio else None,
        line.get("noise_floor"),
        line.get("mde"),
    )
