"""What came of tracing regressions to releases: how much there is to do, a line a step, and the table at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from neverslower.counted import counted
from neverslower.outcome.table import Finding, said
from neverslower.report import words
from neverslower.tracing.culprits import Culprit, Seen, State, Step, Trace

LONGEST_NAME = 36
"""Characters of a kernel's name that a table shows."""
Again = Callable[[Culprit], str]


def beginning(releases: Sequence[str], trace: Trace, budget: float | None) -> Iterator[str]:
    """Yield the releases, and how many steps there are at most and how long they may take.

    Measuring something once more takes at most twice the `budget`, in seconds.
    """
    yield f"{counted(len(releases), 'release')}, {counted(len(trace.cases), 'case')}:"
    yield from (f"  {number}  {release}" for number, release in enumerate(releases))
    clear, most = trace.clear_steps(), trace.most_steps()
    each = f", each at most {words.duration(budget)} (--time-budget) and the start of its workers" if budget else ""
    longest = f", so {words.duration(clear * budget)} in all" if budget else ""
    yield f"at most {counted(clear, 'step')} if each is decided at the first try{each}{longest}"
    longest = f", {words.duration(most / trace.efforts * 3 * budget)} in all" if budget else ""
    yield f"what stays undecided is measured once more, for twice as long: at most {counted(most, 'step')}{longest}"


def step_line(number: int, step: Step, releases: Sequence[str]) -> str:
    """Return what a step measures."""
    longer = ", for longer" if step.effort else ""
    return (
        f"step {number}: {releases[step.new]} against {releases[step.old]}, {counted(len(step.cases), 'case')}{longer}"
    )


def seen_line(step: Step, seen: Sequence[Seen]) -> str:
    """Return how many cases of a step showed what."""
    counts = {state: sum(one.state is state for one in seen) for state in State}
    silent = len(step.cases) - len(seen)
    open_ = f"{counts[State.OPEN] + silent} could not be decided{_apart(seen)}"
    return f"  {counts[State.BAD]} got worse, {counts[State.GOOD]} did not, {open_}"


def unconfirmed(seen: Sequence[Seen]) -> int:
    """Return how many cases are proved slower, and were not shown again before the time ended."""
    return sum(one.state is State.OPEN and one.finding == said(Finding.CHANGE_UNCONFIRMED, True) for one in seen)


def _apart(seen: Sequence[Seen]) -> str:
    number = unconfirmed(seen)
    return f" ({number} of them slower, not shown again yet)" if number else ""


def left_line(steps: int, seconds: float) -> str:
    """Return how much is left at most, after a step that took so long."""
    left = f"at most {counted(steps, 'more step')} if each is decided next time" if steps else "no step is left"
    return f"  {left}; this one took {words.duration(seconds)}"


def lines(trace: Trace, releases: Sequence[str], again: Again, vendor: Again | None = None) -> Iterator[str]:
    """Yield the result: a table with a row for each regression, how to see each again, and what is not known.

    `again` and `vendor` return the commands that show a culprit again, and that write it as a case for the vendor.
    """
    culprits = trace.culprits()
    traced, undecided = trace.traced, trace.undecided
    same = len(trace.cases) - len(traced) - len(undecided)
    apart = _apart([trace.at_the_ends(case) for case in undecided])
    counts = f"{len(traced)} worse, {same} not worse, {len(undecided)} undecided{apart}, of {len(trace.cases)}"
    yield f"{releases[-1]} against {releases[0]}: {counts}"
    if culprits:
        yield ""
        yield "| case | last good | first bad | new / old | what changed |"
        yield "|---|---|---|---|---|"
        yield from (_row(culprit, releases) for culprit in culprits)
        yield ""
        for culprit in culprits:
            if culprit.shown:
                yield f"again     {again(culprit)}"
                yield from (f"vendor    {case}" for case in ([vendor(culprit)] if vendor else []) if case)
    for case in traced:
        yield from _caveats(trace, case, releases)
        if untimed := trace.at_the_ends(case).untimed:
            yield f"undecided: {case}: whether it also got slower: {untimed}"
    for case in undecided:
        seen = trace.at_the_ends(case)
        yield f"undecided: {case}: {seen.finding}: {seen.reason}"


def _row(culprit: Culprit, releases: Sequence[str]) -> str:
    seen = culprit.seen
    of = " the instructions" if seen.finding == said(Finding.MORE_INSTRUCTIONS, True) else ""
    ratio = f"{seen.ratio}{of}" if seen.ratio else seen.finding
    ratio = ratio if culprit.shown else f"not shown side by side: {seen.reason}"
    further = f"worse once more: {', '.join(culprit.kinds)}" if culprit.kinds else "worse once more"
    what = "; ".join(filter(None, (further if culprit.further else "", seen.what)))
    good, bad = releases[culprit.last_good], releases[culprit.first_bad]
    cut = re.sub(rf"([^\s;,]{{{LONGEST_NAME}}})[^\s;,]+", r"\1…", what)
    return f"| {' | '.join(map(_cell, (culprit.case, good, bad, ratio, cut)))} |"


def _caveats(trace: Trace, case: str, releases: Sequence[str]) -> Iterator[str]:
    """Yield what is not known of a case: releases that could not be decided, or were not asked."""
    for culprit in trace.culprits():
        if culprit.case == case and culprit.between:
            between = ", ".join(f"{releases[number]}{_why_open(trace, number, case)}" for number in culprit.between)
            yield f"not decided: {case}: any of {between} may be the first bad one instead"
    if unasked := trace.unasked(case):
        listed = ", ".join(releases[number] for number in unasked)
        yield f"not asked: {case}: whether {listed} fixed it in between; leave out --first-only"
    if undecided := trace.open_after(case):
        listed = ", ".join(releases[number] for number in undecided)
        yield f"not decided: {case}: whether {listed} fixed it in between; if so, a later release is the first bad one"
    if unshown := trace.unshown(case):
        reason = trace.at_the_ends(case).reason
        yield f"not traced: {case}: {', '.join(unshown)}: {reason}; no two neighbouring releases showed it side by side"


def _why_open(trace: Trace, release: int, case: str) -> str:
    seen = trace.against_the_good(release, case)
    return f" ({seen.reason})" if seen and seen.reason else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
