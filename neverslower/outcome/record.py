"""What a journal says of each comparison as it was decided then: verdict, plans, samples and cause, for reading on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence, Examined, PairedPass
from neverslower.files.journal import BEFORE, replay
from neverslower.judge.accuracy import growths, less_exact, less_exact_text
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

    `specs` are the backends as they were named, with their arguments. `verdicts` are the last ones, `examined` is by
    backend and key, `samples` are of all processes in their order, and `explained` holds the fields of an Explanation
    as plain data.
    """

    path: Path
    other: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    specs: dict[str, str] = field(default_factory=dict)
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
            self.specs[line["backend"]] = str(line.get("spec") or line["backend"])
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
    """Return what the library under test did to each channel count, against the other one of the same journal.

    Of those that were not timed, outputs are compared, or instructions where they were counted.
    """
    timed = changes_of(now.path, now.verdicts, before.verdicts).changes if before.samples else []
    return [*timed, *untimed(now, before, {change.id for change in timed})]


def untimed(now: Record, before: Record, timed: Collection[str] = ()) -> Iterator[Change]:
    """Yield what changed at each channel count that both records know, but at those `timed`, by the case's id.

    A count that failed in the newer record alone has that failure's code. One whose outputs alone can be compared is
    UNDECIDED.
    """
    for identity, comparison in now.comparisons.items():
        if comparison.id in timed or comparison.studied or identity not in before.verdicts:
            continue
        mine, then = now.verdicts[identity], before.verdicts[identity]
        key = comparison.backend, comparison.candidate.key
        new, old = now.examined.get(key), before.examined.get(key)
        if new and old:
            yield _compared(comparison, _exact(now, comparison.backend, old, new), old, new, then, mine)
        elif old and mine.at_fault and then.code.measured:
            yield Change.of(comparison, replace(mine, ratio=None), then, mine, "")


def _exact(now: Record, backend: str, old: Examined, new: Examined) -> Evidence | None:
    """Return the exact evidence that both libraries gave of a problem, None where there is none."""
    if new.instructions and old.instructions:
        return Evidence.INSTRUCTIONS
    recorded = backend in now.fingerprints and now.fingerprints[backend].state.get("evidence") == Evidence.DISPATCH
    return Evidence.DISPATCH if recorded else None


def _compared(
    comparison: Comparison, evidence: Evidence | None, old: Examined, new: Examined, then: Verdict, mine: Verdict
) -> Change:
    """Return how the newer library's output differs, and what is exact, if that is the `evidence`; no time counts."""
    verdict, what = Verdict(Code.UNDECIDED, mine.reason), ""
    if evidence:
        verdict = judge_since(evidence, old.plan, old.instructions, new)
        what = str(plan_difference(old.plan, new.plan))
    elif mine.at_fault and then.code.measured:
        verdict = replace(mine, ratio=None)
    less = ""
    if old.error is not None and new.error is not None:
        found = less_exact(old.error, new.error, str(comparison.candidate.dtype))
        less = less_exact_text(old.error, new.error) if found else ""
    seen = evidence or Evidence.DEVICE_TIME
    return Change.of(comparison, verdict, then, mine, what, less, tuple(growths(old, new)), seen)


def _verdict(line: Mapping[str, Any]) -> Verdict:
    reason, ratio = line["reason"], line.get("ratio")
    return Verdict(
        Code(line["code"]),
        Reason(ReasonCode(reason["code"]), reason["text"]),
        Interval(**ratio) if ratio else None,
        line.get("noise_floor"),
        line.get("mde"),
    )
