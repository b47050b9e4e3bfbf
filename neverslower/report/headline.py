"""The table of what maps hold at most: the worst slowdown of light pruning, and the best gain of a good count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neverslower.maps.mapping import Map
from neverslower.maps.staircase import headlines


def headline_table(maps: Iterable[Map]) -> Iterator[str]:
    """Markdown, a row a map and network."""
    yield "| device | format | network | slower counts | worst, at most 12 % pruned | best gain within ±10 % |"
    yield "|---|---|---|---|---|---|"
    for one in maps:
        if not one.staircases:
            continue
        problem = one.staircases[0].unpruned
        for row in headlines(one.staircases):
            worst, where, count, whole = row.worst
            gain, layer, good, bad = row.gain
            yield (
                f"| {one.fingerprint.device} | {problem.dtype} {problem.layout} | {row.network} "
                f"| {row.slower:,} of {row.counts:,} | {worst:.2f}× ({where}, {count} of {whole}) "
                f"| {gain:.2f}× ({layer}, {good} instead of {bad}) |"
            )
