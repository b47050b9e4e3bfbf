"""Say what padding a model came to: a table of what was padded, what is left and why, and the whole network."""

from __future__ import annotations

from collections.abc import Iterator

from neverslower.counted import counted
from neverslower.judge.verdict import Code
from neverslower.mending.mended import Mended
from neverslower.outcome.whole import median_times
from neverslower.report import words

_WORDS = {Code.SLOWER: "slower", Code.SAME: "not slower", Code.FASTER: "faster"}


def mended_lines(mended: Mended) -> Iterator[str]:
    """Yield the lines of a report in Markdown."""
    padding = mended.table.padding
    groups = f"{len(mended.widths)} of {counted(len(padding.choices), 'group')}"
    yield f"{mended.model.title} on {mended.backend}: {groups} of channels padded"
    if ended := mended.table.ended:
        layers = counted(len(mended.table.verdicts), "padded layer")
        yield f"the time budget ended before {ended} of {layers} could be decided"
    yield from _padded(mended)
    yield from _layers(mended)
    yield from _left(mended)
    yield from _whole(mended)


def _padded(mended: Mended) -> Iterator[str]:
    if not mended.widths:
        return
    yield ""
    yield "| group | channels | padded to | layers that make it |"
    yield "|---|---|---|---|"
    for group in mended.table.padding.groups:
        if group.name in mended.widths:
            makers = ", ".join(member.layer for member in group.members_on("out"))
            yield f"| {group.name} | {group.channels} | {mended.widths[group.name]} | {makers} |"


def _layers(mended: Mended) -> Iterator[str]:
    changed = list(mended.table.padding.changed(mended.widths))
    if not changed:
        return
    yield ""
    yield "| layer | channels in → out | padded | against the layer before |"
    yield "|---|---|---|---|"
    for layer, problem in changed:
        verdict, old = mended.table.verdict(layer, problem), layer.problem
        if verdict:
            shapes = f"{old.in_channels} → {old.out_channels} | {problem.in_channels} → {problem.out_channels}"
            yield f"| {layer.place} | {shapes} | {verdict.code}: {verdict.ratio} |"


def _left(mended: Mended) -> Iterator[str]:
    if left := mended.left:
        yield ""
        yield "Left as they are:"
        yield ""
        yield from (f"- {name}: {why}" for name, why in left.items())


def _whole(mended: Mended) -> Iterator[str]:
    if mended.script is None:
        return
    yield ""
    yield f"outputs: equal on drawn inputs, to {mended.difference:.1g} of the largest one"
    yield f"sum of the convolutions, each timed by itself: {mended.ratio_of_layers:.3f}× the time before"
    if mended.whole is None:
        yield f"whole network: not measured: {mended.no_whole}"
        return
    verdict, times = mended.whole.verdict, median_times(mended.whole.passes)
    said = _WORDS.get(verdict.code, f"{str(verdict.code).lower()}: {verdict.reason.text}")
    ratio = f"{verdict.ratio} " if verdict.ratio else ""
    shown = f" ({' → '.join(map(words.seconds, times))})" if times else ""
    yield f"whole network: {ratio}{said} end to end{shown}"
