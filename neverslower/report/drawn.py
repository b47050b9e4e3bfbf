"""What a hunt through drawn layers came to: counts, and each counterexample with the command that measures it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from neverslower.hunt.hunting import Counterexample, Hunted
from neverslower.judge.verdict import Code
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import WholeComparison

Again = Callable[[Comparison | WholeComparison], str]
"""Returns the command that measures something again."""


def summary(what: str, hunted: Hunted, again: Again) -> Iterator[str]:
    """Yield the lines of one hunt: what was drawn, what it came to, then each counterexample."""
    counts = ", ".join(f"{hunted.counts[code]} {code}" for code in Code if hunted.counts.get(code))
    if hunted.counts.get(Code.SLOWER):
        counts += f" (confirmed: {len(hunted.found)})"
    pace = f", {60 * hunted.measured / hunted.seconds:.0f} a minute" if hunted.measured and hunted.seconds else ""
    yield f"{what}: {hunted.drawn} drawn, {hunted.measured} measured{pace}: {counts or 'none'}"
    if hunted.unconfirmed:
        yield f"  not shown again by a fresh process: {hunted.unconfirmed}"
    if hunted.explained:
        yield f"  slower, as a rule says: {hunted.explained}"
    if hunted.left_out:
        yield f"  left out by the time budget: {hunted.left_out}; --hunt-budget gives more"
    for example in (*hunted.failures, *hunted.found):
        yield from (f"  {line}" for line in counterexample(example, again))
    yield from (f"  slower in an earlier run, no longer: {example.id}" for example in hunted.gone)


def counterexample(example: Counterexample, again: Again) -> Iterator[str]:
    """Yield a layer that contradicts the property, its plans, and the command."""
    comparison, verdict = example.comparison, example.verdict
    ratio = f" {verdict.ratio}" if verdict.ratio else ""
    yield f"{verdict.code}{ratio}: {comparison.reference}, {comparison.channels}"
    yield f"  {verdict.reason.text}"
    reference, candidate = example.plans
    if reference and candidate:
        yield f"  plan {reference} → {candidate}"
        if reference.steps != candidate.steps:
            yield f"  unpruned: {'; '.join(reference.steps)}"
            yield f"  pruned:   {'; '.join(candidate.steps)}"
    yield f"  again: {again(comparison)}"
