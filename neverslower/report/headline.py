"""Tabulate the extremes of maps: the worst slowdown of light pruning, and the best gain of a good count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neverslower.maps.map_file import Map
from neverslower.maps.staircase import headlines


def headline_table(maps: Iterable[Map]) -> Iterator[str]:
    """Yield a Markdown table with a row for each network of each map."""
    yield "| device | policy | format | network | slower counts | worst, at most 12 % pruned | best gain within ±10 % |"
    yield "|---|---|---|---|---|---|---|"
    for measured in maps:
        if not measured.staircases:
            continue
        problem = measured.staircases[0].unpruned
        policy = measured.fingerprint.state.get("policy") or "–"
        for row in headlines(measured.staircases):
            worst, where, count, whole = row.worst
            gain, layer, good, bad = row.gain
            yield (
                f"| {measured.fingerprint.device} | {policy} | {problem.dtype} {problem.layout} | {row.network} "
                f"| {row.slower:,} of {row.counts:,} | {worst:.2f}× ({where}, {count} of {whole}) "
                f"| {gain:.2f}× ({layer}, {good} instead of {bad}) |"
            )
