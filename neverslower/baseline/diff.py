"""Two records of exact evidence side by side: what an upgrade gave other instructions, or another dispatch."""

from __future__ import annotations

from dataclasses import dataclass

from neverslower.baseline.entry import Baseline, Entry
from neverslower.errors import BaselineError
from neverslower.evidence.observation import Examined
from neverslower.judge.exact import judge_since
from neverslower.judge.verdict import Code, Verdict


@dataclass(frozen=True)
class ProblemDiff:
    """What became of one problem, None where one record alone holds it: the second, or it is `gone`."""

    name: str
    verdict: Verdict | None
    gone: bool = False

    def __str__(self) -> str:
        if self.verdict is None:
            return f"{self.name}: {'only in the first' if self.gone else 'only in the second'}"
        ratio = f" {self.verdict.ratio}" if self.verdict.ratio else ""
        return f"{self.name}: {self.verdict.code}{ratio}: {self.verdict.reason.text}"


def compare(before: Baseline, after: Baseline) -> list[ProblemDiff]:
    """Every problem of two records, in the second one's order. Raises BaselineError where they can't be compared."""
    _require_comparable(before, after)
    changes = []
    seen: set[str] = set()
    once = {entry.candidate: entry for entry in before.entries.values()}
    for entry in after.entries.values():
        if entry.candidate in seen:
            continue
        seen.add(entry.candidate)
        known = once.get(entry.candidate)
        changes.append(ProblemDiff(entry.label or entry.candidate, _since(before, known, entry) if known else None))
    if not seen & set(once):
        raise BaselineError(f"{before.path} and {after.path} have no problem in common")
    gone = [one for key, one in once.items() if key not in seen]
    return changes + [ProblemDiff(one.label or one.candidate, None, gone=True) for one in gone]


def _require_comparable(before: Baseline, after: Baseline) -> None:
    for one in (before, after):
        if not one.evidence.exact:
            text = "holds times: `pytest-benchmark compare` shows them, and `pytest --benchmark-compare` judges them"
            raise BaselineError(f"{one.path} {text}")
    if obstacles := after.fingerprint.obstacles(before.fingerprint):
        raise BaselineError(f"{before.path} and {after.path} can't be compared: {'; '.join(obstacles)}")


def _since(before: Baseline, known: Entry, now: Entry) -> Verdict:
    seen = Examined(now.plan, None, 0.0, 0.0, instructions=now.instructions)
    return judge_since(before.evidence, known.plan, known.instructions, seen)


def worse(changes: list[ProblemDiff]) -> bool:
    """Whether anything changed that a strict run would not let pass."""
    return any(one.verdict is None or one.verdict.code in (Code.MORE, Code.CHANGED, Code.INVALID) for one in changes)
