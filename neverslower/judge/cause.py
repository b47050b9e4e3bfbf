"""Why fewer channels cost more: name the cause of a hazard from both plans and from the time of the best plan.

Functions of data: nothing is measured here. The kernels that a GPU library launched say most (see kernels.py); where
a library reports no kernels the cause stays unknown, unless its best plan is not slower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from neverslower.enums import StrEnum
from neverslower.evidence.kernels import Kernel, kernels, main_kernels
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import Code, Interval, Verdict


class Cause(StrEnum):
    """Causes, in the order in which they are looked for."""

    HEURISTIC_MISS = "heuristic miss"
    KERNEL_CHANGE = "kernel change"
    ALIGNMENT = "alignment"
    TILE_OR_WAVE = "tile or wave step"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Remedy:
    """Padding to `channels`, with the time of the padded problem over that of the pruned one, measured side by side.

    Where both sides are padded, `channels` are the output's, and `inputs` those of the input.
    """

    channels: int
    ratio: Interval
    inputs: int | None = None

    def __str__(self) -> str:
        both = f" output and {self.inputs} input channels" if self.inputs else ""
        return f"pad to {self.channels}{both}: {self.ratio} the time of the pruned layer"


@dataclass(frozen=True)
class Explanation:
    """A cause with its evidence, one line each, the best plan's time over the unpruned layer's, and a remedy."""

    cause: Cause
    evidence: tuple[str, ...]
    best: Interval | None = None
    remedy: Remedy | None = None


def explain(
    reference: Plan,
    candidate: Plan,
    best: Verdict | None,
    processors: int = 0,
    remedy: Remedy | None = None,
    slower: bool = True,
) -> Explanation:
    """Return why a candidate is slower than its reference, each by its plan; if it is not `slower`, how they differ.

    `best` is the verdict on the candidate's best plan against the reference's chosen plan, None where it was not
    measured. `processors` are the GPU's multiprocessors, 0 where unknown.
    """
    ratio = best.ratio if best else None
    if slower and best and best.code in (Code.SAME, Code.FASTER):
        text = f"the best plan takes {ratio} the time of the unpruned layer, the chosen one is slower"
        return Explanation(Cause.HEURISTIC_MISS, (text,), ratio, remedy)
    cause, evidence = _from_kernels(kernels(reference), kernels(candidate), processors)
    best_text = (
        f"the best plan takes {ratio} the time of the unpruned layer" if ratio else "the best plan was not measured"
    )
    return Explanation(cause, (*evidence, best_text), ratio, remedy)


def _from_kernels(
    reference: Sequence[Kernel], candidate: Sequence[Kernel], processors: int
) -> tuple[Cause, tuple[str, ...]]:
    if not reference or not candidate:
        return Cause.UNKNOWN, ("the library does not say what it launched",)
    # From the plainest cause to the subtlest: another kernel explains everything, added helpers explain themselves, and
    # only then does the grid of one and the same kernel matter.
    before, after = main_kernels(reference), main_kernels(candidate)
    added = _added_helpers(reference, candidate)
    if [kernel.name for kernel in before] != [kernel.name for kernel in after]:
        return Cause.KERNEL_CHANGE, (*_kernel_change(before, after), *added)
    if added:
        return Cause.ALIGNMENT, (f"{_names(after)} computes either way", *added)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    # Fewer channels in more tiles, by one and the same kernel: the library cut the work another way.
    for old, new in changed:
        if new.tiles > old.tiles:
            return Cause.TILE_OR_WAVE, (_tiles(old, new, processors),)
    if changed:
        old, new = changed[0]
        return Cause.UNKNOWN, (f"{new.short}: grid {old.grid} became {new.grid}, which is no more tiles",)
    return Cause.UNKNOWN, (f"{_names(after)} is launched the same way for both",)


def _kernel_change(before: Sequence[Kernel], after: Sequence[Kernel]) -> tuple[str, ...]:
    """Describe how the main kernels differ, and the architectures that they were written for where these differ too."""
    generations = [
        " ".join(sorted({kernel.generation for kernel in side if kernel.generation})) for side in (before, after)
    ]
    change = f"{_names(before)} became {_names(after)}"
    if all(generations) and generations[0] != generations[1]:
        return change, f"written for {generations[0]}, then for {generations[1]}"
    return (change,)


def _added_helpers(reference: Sequence[Kernel], candidate: Sequence[Kernel]) -> tuple[str, ...]:
    """Name the helper kernels that only the candidate launches, or launches more often."""
    counted = [Counter(kernel.short for kernel in side if kernel.helper) for side in (reference, candidate)]
    extra = counted[1] - counted[0]  # Counters subtract down to 0: what only the reference launches is no cause.
    if not extra:
        return ()
    listed = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in sorted(extra.items()))
    return (f"only the pruned layer launches {listed}",)


def _tiles(before: Kernel, after: Kernel, processors: int) -> str:
    """Describe how the grid of an unchanged kernel grew; a wave is as many tiles as there are processors."""
    # A last wave that is nearly empty takes as long as a full one, so one tile more may cost a whole wave.
    waves = [-(-kernel.tiles // processors) if processors else 0 for kernel in (before, after)]
    more = f", {waves[0]} and {waves[1]} waves of {processors}" if waves[1] > waves[0] else ""
    return f"{after.short}: {before.tiles} tiles became {after.tiles}{more}"


def _names(launched: Sequence[Kernel]) -> str:
    return " and ".join(dict.fromkeys(kernel.short for kernel in launched))
