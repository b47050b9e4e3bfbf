"""Prepares what is to be measured: tunes what needs it, compiles ahead, and examines each problem once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.crowd import Compiling
from neverslower.campaign.library import Library, as_dict
from neverslower.evidence.observation import Examined, Searched
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.problem.compared import Compared
from neverslower.problem.subject import Search

Wait = Callable[[Iterable[str]], object]
"""Returns once some subjects are compiled, by their keys."""
EXAMINED_AT_ONCE, PROFILED_AT_ONCE, BYTES_AT_ONCE = 4, 32, 256_000_000
"""Comparisons whose problems are asked for in one request, and the bytes of their tensors that are held meanwhile.

A profiler that is attached once for many is worth losing more when the run is killed.
"""
TRIAL_LIMIT, TRIALS_AT_LEAST = 60.0, 15
"""Seconds that a search may take for each of its trials, and for how many at the least."""


def subjects(comparisons: Iterable[Compared]) -> list[str]:
    """Return the key of every subject of some comparisons, once."""
    return list(dict.fromkeys(key for comparison in comparisons for key in comparison.keys))


def examined_together(run: BackendRun, comparisons: Sequence[Compared]) -> Iterator[list[Compared]]:
    """Yield groups whose problems are few and small enough to be asked for in one request, in the order given."""
    most = PROFILED_AT_ONCE if "profiles" in run.library.offers else EXAMINED_AT_ONCE
    group: list[Compared] = []
    sizes: dict[str, int] = {}
    for comparison in comparisons:
        mine = {work.key: work.bytes for work in (comparison.reference, comparison.candidate)}
        if group and (len(group) == most or sum((sizes | mine).values()) > BYTES_AT_ONCE):
            yield group
            group, sizes = [], {}
        group.append(comparison)
        sizes |= mine
    if group:
        yield group


def tune(run: BackendRun, comparisons: Sequence[Compared]) -> list[Compared]:
    """Make the searches that comparisons rest on, each once, and return what can be measured then."""
    needed: dict[Search, None] = {}
    for comparison in comparisons:
        needed |= dict.fromkeys(log.search for log in comparison.tuned_logs)
    if not needed:
        return list(comparisons)
    phase = run.phase()
    failed: dict[Search, Failure] = {}
    for done, search in enumerate(needed, start=1):
        answer = _search(run, search, phase.begin)
        if isinstance(answer, Failure):
            failed[search] = answer
        phase.show("tune", done, len(needed))
    run.library.holder.fresh()  # What a search leaves in its process must not lie beside what is timed.
    spent = run.clock() - phase.begin
    run.findings.tune(spent)
    run.budget.extend(spent)
    return _without_failed_searches(run, comparisons, failed)


def _search(run: BackendRun, search: Search, begin: float) -> Searched | Failure:
    """Search within what is left of the time for tuning, which began at `begin`."""
    limit = left = TRIAL_LIMIT * max(TRIALS_AT_LEAST, search.trials)
    if run.settings.tuning_budget is not None:
        left = min(limit, begin + run.settings.tuning_budget - run.clock())
    if left <= 0:
        return out_of_time("tuned", "tuning budget")
    answer: Searched | Failure = run.library.ask(lambda worker: worker.tune(search, left))
    if isinstance(answer, Failure) and answer.reason.code is ReasonCode.TIME_LIMIT and left < limit:
        answer = out_of_time("tuned", "tuning budget")
    run.library.write("tuned", {"search": str(search)} | as_dict(answer))
    if isinstance(answer, Searched):
        run.findings.search(search, answer)
    return answer


def _without_failed_searches(
    run: BackendRun, comparisons: Sequence[Compared], failed: Mapping[Search, Failure]
) -> list[Compared]:
    """Return the comparisons whose searches were all made; the others get the verdict of the first that was not."""
    chosen = []
    for comparison in comparisons:
        why = next((failed[log.search] for log in comparison.tuned_logs if log.search in failed), None)
        if why:
            run.library.fail(comparison, why)
        else:
            chosen.append(comparison)
    return chosen


@contextlib.contextmanager
def compiled_ahead(run: BackendRun, comparisons: Sequence[Compared]) -> Iterator[Wait]:
    """Let libraries that compile do it now, as far as half of the time goes; it gives what waits for some subjects.

    In a body that examines all in the order given, a GPU library compiles the next ones meanwhile; others are done
    when the body begins.
    """
    phase = run.phase()
    # The other half is for measuring what was compiled; the rest is compiled as far as it is prepared.
    kept = run.budget.half(phase.begin)
    keys = subjects(comparison for comparison in comparisons if not comparison.whole)
    meanwhile = run.begins_all and all("profiles" in library.offers for library in run.libraries())
    show = silently if meanwhile else partial(phase.show, "compile")
    with contextlib.ExitStack() as stack:
        waits = []
        for library in run.libraries():
            compiling = stack.enter_context(Compiling(library, keys, show, lambda: run.spent(kept)))
            if not meanwhile:
                compiling.wait()
            waits.append(compiling.wait)
        yield lambda keys: [wait(keys) for wait in waits]


def silently(done: int, total: int) -> None:
    """Show no progress: what is done meanwhile is shown."""


def examine(run: BackendRun, comparison: Compared) -> bool:
    """Examine both problems of a comparison with each library, and return whether it can be measured."""
    answers = [run.library.examiner.examine(key) for key in comparison.keys]
    if run.other:
        _examine_beside(run.other, comparison)
    if failed := _failure(answers):
        run.library.fail(comparison, failed)
        _only_there(run, comparison)
    return failed is None


def _failure(answers: Sequence[Examined | Failure]) -> Failure | None:
    """Return the first that failed, if any did."""
    return next((answer for answer in answers if isinstance(answer, Failure)), None)


def _examine_beside(other: Library, comparison: Compared) -> None:
    """Examine with the other library too; where it can't do it, there is nothing to set this one's time against."""
    if failed := _failure([other.examiner.examine(key) for key in comparison.keys]):
        other.fail(comparison, failed)


def _only_there(run: BackendRun, comparison: Compared) -> None:
    """Say that the other library can do what this one can't, where it can: nothing is timed."""
    reason = Reason(ReasonCode.LIBRARY_REFUSES, "only this library can do it, so it was not timed")
    if run.other and run.other.waiting([comparison]):
        run.other.finish(comparison, Verdict(Code.UNDECIDED, reason))
