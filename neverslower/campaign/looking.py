"""Looks at what is exact, such as counts of instructions: each problem once, in whatever company, judged at once."""

from __future__ import annotations

from collections.abc import Sequence

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.crowd import examine_all
from neverslower.campaign.library import Library
from neverslower.campaign.preparing import subjects
from neverslower.evidence.observation import Examined
from neverslower.judge.exact import judge_pruned
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Verdict
from neverslower.problem.compared import Compared


def look(run: BackendRun, comparisons: Sequence[Compared]) -> None:
    """Examine every problem with each library, as many beside each other as it allows, and judge at once."""
    ordered = sorted(comparisons, key=lambda comparison: comparison.telling)
    for library in run.libraries():
        _look_with(library, run, ordered)


def _look_with(library: Library, run: BackendRun, comparisons: Sequence[Compared]) -> None:
    keys = subjects(comparisons)
    phase = run.phase()
    try:
        examine_all(library, keys, lambda done: phase.show("look", done, len(keys)), run.spent)
    finally:  # What was looked at before an interruption is judged.
        for comparison in comparisons:
            if verdict := _verdict(library, comparison):
                library.finish(comparison, verdict)
    for comparison in library.waiting(comparisons):
        library.fail(comparison, out_of_time("looked at"))


def _verdict(library: Library, comparison: Compared) -> Verdict | None:
    """Return the verdict, None where one of both was not looked at yet."""
    answers = [library.examiner.examined.get(key) for key in comparison.keys]
    for answer in answers:
        if isinstance(answer, Failure):
            return answer.verdict
    reference, candidate = answers
    if isinstance(reference, Examined) and isinstance(candidate, Examined):
        return judge_pruned(library.evidence, reference, candidate)
    return None
