"""Compare two records of exact evidence: which problems take other instructions, or are dispatched differently."""

from __future__ import annotations

from dataclasses import dataclass

from neverslower.baseline.entry import Baseline, Entry
from neverslower.errors import BaselineError
from neverslower.evidence.observation import Examined
from neverslower.judge.exact import judge_since
from neverslower.judge.verdict import Code, Verdict


@dataclass(frozen=True)
class ProblemDiff:
    """One problem in two records: its verdict, or None where only one record holds it.

    That is the first record where the problem is `gone`, else the second.
    """

    name: str
    verdict: Verdict | None
    gone: bool = False

    def __str__(self) -> str:
        if self.verdict is None:
            return f"{self.name}: {'only in the first' if self.gone else 'only in the second'}"
        ratio = f" {self.verdict.ratio}" if self.verdict.ratio else ""
        return f"{self.name}: {self.verdict.code}{ratio}: {self.verdict.reason.text}"


def compare(before: Baseline, after: Baseline) -> list[ProblemDiff]:
    """Return a diff for each problem in either record, those of `after` first and in its order.

    A problem that several comparisons share counts once. Raises BaselineError where the records can't be compared.
    """
    _require_comparable(before, after)
    diffs = []
    seen: set[str] = set()
    stored = {entry.candidate: entry for entry in before.entries.values()}
    for entry in after.entries.values():
        if entry.candidate in seen:
            continue
        seen.add(entry.candidate)
        known = stored.get(entry.candidate)
        diffs.append(ProblemDiff(entry.label or entry.candidate, _since(before, known, entry) if known else None))
    if not seen & set(stored):
        raise BaselineError(f"{before.path} and {after.path} have no problem in common")
    gone = [entry for key, entry in stored.items() if key not in seen]
    return diffs + [ProblemDiff(entry.label or entry.candidate, None, gone=True) for entry in gone]


def _require_comparable(before: Baseline, after: Baseline) -> None:
    for record in (before, after):
        if not record.evidence.exact:
            text = "holds times: `pytest-benchmark compare` shows them, and `pytest --benchmark-compare` judges them"
            raise BaselineError(f"{record.path} {text}")
    if obstacles := after.fingerprint.obstacles(before.fingerprint):
        raise BaselineError(f"{before.path} and {after.path} can't be compared: {'; '.join(obstacles)}")


def _since(before: Baseline, known: Entry, now: Entry) -> Verdict:
    # Only plan and count are compared: error, tolerance and time play no part.
    seen = Examined(now.plan, None, 0.0, 0.0, instructions=now.instructions)
    return judge_since(before.evidence, known.plan, known.instructions, seen)


def worse(diffs: list[ProblemDiff]) -> bool:
    """Tell whether anything changed that a strict run would not let pass."""
    return any(diff.verdict is None or diff.verdict.code in (Code.MORE, Code.CHANGED, Code.INVALID) for diff in diffs)
