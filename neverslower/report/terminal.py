"""The terminal summary: counts by verdict first, then the worst by ratio, then what else is to be known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import FAULTS, Findings, Identity, Result
from neverslower.counted import counted
from neverslower.evidence.observation import Examined
from neverslower.judge.cause import Explanation
from neverslower.judge.verdict import Code, Interval, ReasonCode
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.tally import NEVER_BEGUN, proved_unconfirmed
from neverslower.problem.comparison import Comparison
from neverslower.report import words
from neverslower.report.listing import LISTED, listing
from neverslower.report.reproduction import software

WORST = 10
_WORSE = (
    (Code.SLOWER, "slower (pruned over unpruned time)"),
    (Code.MORE, "with more instructions (pruned over unpruned)"),
)
PLANS_WIDTH = 74
"""Characters that two plans may take on one line; longer ones get a line each."""
RATIO_WIDTH = len("1.390× [1.384, 1.394]")
"""Characters of a ratio with its interval, where it is one column of several."""
STEP_WIDTH, STEPS_LISTED = 62, 2
"""Characters of a plan's step that are shown, and how many steps of either plan."""
_LOST_TO = {
    ReasonCode.WORKER_DIED: "worker died or failed",
    ReasonCode.TIME_LIMIT: "time limit",
    ReasonCode.OUT_OF_MEMORY: "out of memory",
    ReasonCode.TIME_BUDGET: "time budget",
    ReasonCode.BUDGET_ENDED: "time budget, begun",
    ReasonCode.BACKEND_UNAVAILABLE: "backend unavailable",
    ReasonCode.INTERRUPTED: "interrupted",
}
_TOLD_ELSEWHERE = {ReasonCode.TIME_BUDGET, ReasonCode.BUDGET_ENDED, ReasonCode.BACKEND_UNAVAILABLE}


def summary(
    findings: Findings,
    assessed: Sequence[Assessed],
    choices: Mapping[str, BaselineChoice],
    verbose: bool = False,
    said: str = "",
    beside: bool = False,
) -> Iterator[str]:
    """Yield the lines of the summary; a `verbose` one counts every verdict, and lists the times of every layer.

    Why a backend is unavailable is left out where it was `said` before; `beside`: another library was measured too.
    """
    pruned = _pruned(findings)
    if verbose:
        yield from _every(findings, pruned)
    yield from _slower_than_itself(findings)
    yield from losses(findings)
    for name, reason in findings.unavailable.items():
        if reason not in said:
            yield f"{name} is unavailable: {reason}"
    for name, remarks in findings.remarks.items():
        yield from (f"{name}: {remark}" for remark in remarks)
    yield from _noisy(findings)
    yield from states(findings)
    yield from _unconfirmed(pruned)
    yield from _worst(pruned, findings.explanations)
    yield from _causes(findings.explanations.values())
    yield from _tuned_logs(findings, [item for item in assessed if item.comparison.studied])
    proved = {result.comparison.identity for result in pruned if proved_unconfirmed(result.verdict)}
    yield from listing(assessed, proved, beside)
    yield from _measured(findings, choices)


def _noisy(findings: Findings) -> Iterator[str]:
    """Yield which forecast of too much noise came true: something that was begun stayed undecided."""
    for name, forecast in findings.noisy.items():
        verdicts = [result.verdict for result in findings.results.values() if result.comparison.backend == name]
        undecided = [one for one in verdicts if one.code is Code.UNDECIDED and one.reason.code not in NEVER_BEGUN]
        if undecided:
            yield words.was_too_noisy(name, forecast, len(undecided))


def _measured(findings: Findings, choices: Mapping[str, BaselineChoice]) -> Iterator[str]:
    """Yield what was measured, on what, set against what, and how much of it in how long."""
    for name, fingerprint in findings.fingerprints.items():
        choice = choices.get(name)
        yield f"{software(fingerprint)} on {fingerprint.device}"
        yield f"  {baseline_words(choice)}"
        if choice and choice.baseline:
            yield from (f"  differs: {field}" for field in fingerprint.confounders(choice.baseline.fingerprint))
        if name in findings.pairs:
            yield f"  {findings.pairs[name]}"
    if findings.searches:
        yield f"searches for schedules: {len(findings.searches)}, in {words.duration(findings.tuning_seconds)}"
    if findings.left_out:
        total = len(findings.verdicts)
        share = (total - findings.left_out) / total
        begun = f"{total - findings.left_out} of {counted(total, 'comparison')} ({share:.0%})"
        yield f"coverage: {begun} begun; the time budget left out the rest"
    if findings.verdicts or findings.agreements:
        yield f"measured in {words.duration(findings.seconds)}"


def _against_itself(findings: Findings) -> list[Result]:
    results = findings.results.values()
    return [result for result in results if result.comparison.against_itself and not result.evidence.exact]


def _slower_than_itself(findings: Findings) -> Iterator[str]:
    """Yield a warning where an unpruned layer came out slower than itself: then believe no SLOWER of this run."""
    slower = [result for result in _against_itself(findings) if result.verdict.code is Code.SLOWER]
    if slower:
        named = ", ".join(result.comparison.id for result in slower[:LISTED])
        yield f"WARNING: unpruned layers came out slower than themselves, so this device was too noisy: {named}"


def _every(findings: Findings, pruned: Sequence[Result]) -> Iterator[str]:
    """Yield the counts of every verdict, and what each layer took."""
    if pruned:
        yield _counts("pruned against unpruned", pruned)
    if against_itself := _against_itself(findings):
        yield _counts("unpruned against itself (must not be SLOWER)", against_itself)
    for result in sorted(pruned, key=_place):
        if amounts := _amounts(result):
            ratio = str(result.verdict.ratio or "")
            yield f"  {result.verdict.code:9} {amounts}  {ratio:{RATIO_WIDTH}}  {result.comparison.id}"


def _place(result: Result) -> tuple[str, str, str, int]:
    """Return by what results are sorted: the layer, and in it the channels, from many to few."""
    comparison = result.comparison
    kept = comparison.candidate.channels(comparison.side)
    return comparison.backend, comparison.layer.name, f"{comparison.reference.key} {comparison.side}", -kept


def _amounts(result: Result) -> str:
    """Return what the unpruned and the pruned layer took: `1.53 ms → 1.39 ms`; nothing where neither was measured."""
    if result.passes:
        sides = ([pass_.reference for pass_ in result.passes], [pass_.candidate for pass_ in result.passes])
        return " → ".join(f"{words.seconds(float(np.median(np.concatenate(side)))):>7}" for side in sides)
    seen = [examined.instructions for examined in (result.reference, result.candidate) if examined]
    return " → ".join(f"{count:,} instructions" for count in seen if count) if len(seen) == 2 else ""


def _pruned(findings: Findings) -> list[Result]:
    return [result for result in findings.results.values() if result.comparison.asks_whether_slower]


def states(findings: Findings) -> Iterator[str]:
    """Yield what was unsound about each device when the run began, and what changed while it was measured."""
    for name, unsound in findings.unsound.items():
        if name not in findings.refused:
            yield from (f"{name}: {'UNSOUND: ' if trouble.grave else ''}{trouble}" for trouble in unsound)
    for name, change in findings.changed.items():
        marked = counted(sum(identity[0] == name for identity in findings.marked), "comparison")
        yield f"{name}: the device's state changed while it was measured: {change}; {marked} marked"


def losses(findings: Findings, whose: str = "") -> Iterator[str]:
    """Yield how many verdicts were lost to what, unless a line of its own says so."""
    lost = findings.lost
    if set(lost) <= _TOLD_ELSEWHERE:
        return
    named = _LOST_TO | ({ReasonCode.INTERRUPTED: findings.ended} if findings.ended else {})
    listed = ", ".join(f"{lost[code]} {named[code]}" for code in FAULTS if lost[code])
    yield f"{whose}without a verdict: {lost.total()} of {findings.wanted.total() or len(findings.verdicts)}: {listed}"


def _counts(title: str, results: Sequence[Result]) -> str:
    counts = Counter(result.verdict.code for result in results)
    listed = ", ".join(f"{counts[code]} {code}" for code in Code if counts[code])
    return f"{title}: {listed} (of {len(results)})"


def _causes(explanations: Collection[Explanation]) -> Iterator[str]:
    """Yield how often each cause was found, and how often padding fixes it."""
    if not explanations:
        return
    counts = Counter(explanation.cause for explanation in explanations)
    padded = sum(explanation.remedy is not None for explanation in explanations)
    listed = ", ".join(f"{count} {cause}" for cause, count in counts.most_common())
    yield f"causes: {listed}; padding would be faster for {padded} of {len(explanations)}"


def _worst(results: Sequence[Result], explanations: Mapping[Identity, Explanation]) -> Iterator[str]:
    for code, what in _WORSE:
        ranked = [
            (result.verdict.ratio.estimate, result)
            for result in results
            if result.verdict.code is code and result.verdict.ratio
        ]
        yield from _worst_of(ranked, what, explanations)


def _worst_of(
    slower: list[tuple[float, Result]], what: str, explanations: Mapping[Identity, Explanation]
) -> Iterator[str]:
    if not slower:
        return
    slower.sort(key=lambda pair: -pair[0])
    yield f"{len(slower)} {what}{f', the worst {WORST}' if len(slower) > WORST else ''}:"
    for _, result in slower[:WORST]:
        yield from _pruned_lines(result, result.verdict.ratio, explanations.get(result.comparison.identity))


def _unconfirmed(results: Sequence[Result]) -> Iterator[str]:
    """Yield what the passes prove slower and no later process confirmed, with the ratio that they prove."""
    proved = [(result.verdict.ratio, result) for result in results if proved_unconfirmed(result.verdict)]
    if not proved:
        return
    proved.sort(key=lambda pair: -pair[0].estimate if pair[0] else 0.0)
    yield f"proved slower by the passes, and not confirmed: {len(proved)}"
    for ratio, result in proved[:LISTED]:
        yield from _pruned_lines(result, ratio, None)
    if len(proved) > LISTED:
        yield f"  … and {len(proved) - LISTED} more"


def _pruned_lines(result: Result, ratio: Interval | None, why: Explanation | None) -> Iterator[str]:
    """Yield what one pruned layer costs, and below it both plans, since the pair explains it."""
    comparison = result.comparison
    yield f"  {ratio}  {comparison.counts}  {comparison.id}"
    if others := [place for place in comparison.layer.places if place != comparison.layer.title]:
        yield f"      also {', '.join(others)}"
    plans = f"plan {plans_of(result)}"
    if len(plans) <= PLANS_WIDTH:
        yield f"      {plans}"
    else:
        yield from (f"      {side} {seen.plan}" for side, seen in _sides(result) if seen)
    yield from (f"      {line}" for line in _steps_that_differ(result))
    if why:
        yield f"      cause: {why.cause}{f'; {why.remedy}' if why.remedy else ''}"


def _steps_that_differ(result: Result) -> Iterator[str]:
    """Yield what only one of two plans of the same name runs: a reorder, or a kernel that pads."""
    if not (result.reference and result.candidate and result.reference.plan.name == result.candidate.plan.name):
        return
    (_, before), (_, after) = ((side, Counter(map(_step, seen.plan.steps))) for side, seen in _sides(result) if seen)
    for side, only in (("unpruned:", before - after), ("pruned:  ", after - before)):
        yield from (f"{side} {step[:STEP_WIDTH]}" for step in list(only)[:STEPS_LISTED])


def _step(step: str) -> str:
    """Return a plan's step without the sizes of its launch, which follow from the number of channels."""
    return re.sub(r" (grid|block)=\S+", "", step)


def _sides(result: Result) -> tuple[tuple[str, Examined | None], ...]:
    return ("unpruned", result.reference), ("pruned  ", result.candidate)


def plans_of(result: Result) -> str:
    """Return the unpruned and the pruned layer's plan: `jit:avx2 → gemm`, or `jit:avx2 either way`."""
    before, after = (str(seen.plan) if seen else "unknown" for seen in (result.reference, result.candidate))
    return f"{before} either way" if before == after else f"{before} → {after}"


def _tuned_logs(findings: Findings, studied: Sequence[Assessed]) -> Iterator[str]:
    """Yield the study of tuned logs: the searches of each layer, then a line a channel count with each remedy."""
    by_layer: dict[Comparison, list[Assessed]] = {}
    for item in studied:
        key = replace(item.comparison, candidate=item.comparison.reference, policies=("", ""), label="", telling=0)
        by_layer.setdefault(key, []).append(item)
    for comparison, members in by_layer.items():
        yield f"tuned log of {comparison.layer.name}, {comparison.reference}: {_searches(findings, comparison)}"
        by_count: dict[int, list[str]] = {}
        for item in members:
            count = item.comparison.candidate.channels(item.comparison.side)
            by_count.setdefault(count, []).append(f"{item.comparison.label} {item.verdict.ratio or item.verdict.code}")
        yield from (f"  {count} channels: {'; '.join(texts)}" for count, texts in by_count.items())


def _searches(findings: Findings, comparison: Comparison) -> str:
    """Return how the unpruned layer's searches came out."""
    mine = {
        search: searched for search, searched in findings.searches.items() if search.problem == comparison.reference
    }
    if not mine:
        return "no search was made"
    trials = next(iter(mine)).trials
    best = ", ".join(f"{words.seconds(searched.best)} (seed {search.seed})" for search, searched in mine.items())
    remembered = sum(searched.remembered for searched in mine.values())
    took = f"{remembered} remembered, " if remembered else ""
    seconds = sum(searched.seconds for searched in mine.values())
    return f"{counted(trials, 'trial')} each, best {best}; {took}{words.duration(seconds)}"


def baseline_words(choice: BaselineChoice | None) -> str:
    """Return which baseline was chosen, or why none."""
    if choice is None or (choice.baseline is None and choice.absence is None):
        return "no baseline"
    if choice.baseline is None:
        return choice.absence.reason.text if choice.absence else "no baseline"
    named = choice.baseline.beside and f"compared with {choice.baseline.beside}"
    return f"{named or f'baseline {choice.baseline.path.name}'} ({software(choice.baseline.fingerprint)})"
