"""Tabulate the extremes of curves: the worst slowdown of light pruning, and the best gain of an advised count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neverslower.evidence.observation import Evidence
from neverslower.maps.headline import Gain, Headline, Worst, headline_of, headlines, titled
from neverslower.maps.staircase import Staircase

HEAD = (
    "| record | device | policy | format | evidence | layer | worse counts | worst, at most 12 % pruned "
    "| best gain of an advised count within ±10 % |"
)
_WORDS = {
    Evidence.DEVICE_TIME: ("slower", ""),
    Evidence.INSTRUCTIONS: ("with more instructions", " the instructions"),
    Evidence.DISPATCH: ("dispatched differently", " the work-items"),
}
"""How each kind of evidence says that a count is worse, and of what a ratio is: nothing but time is ever slower."""
_KINDS = {Evidence.DEVICE_TIME: "time", Evidence.INSTRUCTIONS: "instructions", Evidence.DISPATCH: "dispatch"}


def table_head() -> list[str]:
    """Return the two lines above the rows."""
    return [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]


def headline_rows(
    about: Sequence[str], staircases: Sequence[Staircase], survey: bool, with_layers: bool
) -> Iterator[str]:
    """Yield the rows of one record: each layer's where they are asked for, and each network's over all its layers.

    `about` are the record, the device and its policy. Layers of two formats are two networks.
    """
    for form, members in _by_format(staircases).items():
        kind = _KINDS[members[0].evidence] + (", surveyed" if survey else "")
        words = _WORDS[members[0].evidence]
        beginning = " | ".join((*about, form, kind))
        if with_layers:
            for member in members:
                yield f"| {beginning} | {_row(titled(member), headline_of(member.name, [member]), words)}"
        for found in headlines(members):
            yield f"| {beginning} | {_row(_named(found), found, words)}"


def headline_lines(staircases: Sequence[Staircase]) -> Iterator[str]:
    """Yield a line for each network: the extremes of all its layers."""
    for form, members in _by_format(staircases).items():
        words = _WORDS[members[0].evidence]
        for found in headlines(members):
            worst = f"worst with at most 12 % pruned: {_worst(found.worst, words[1])}"
            yield f"{_named(found)}, {form}: {worst}; best gain of an advised count: {_gain(found.gain, words[1])}"


def _by_format(staircases: Sequence[Staircase]) -> dict[str, list[Staircase]]:
    forms: dict[str, list[Staircase]] = {}
    for staircase in staircases:
        forms.setdefault(f"{staircase.unpruned.dtype} {staircase.unpruned.layout}", []).append(staircase)
    return forms


def _named(found: Headline) -> str:
    return f"{found.name}, all {found.layers} layers" if found.layers > 1 else f"{found.name}, one layer"


def _row(name: str, found: Headline, words: tuple[str, str]) -> str:
    worse, what = words
    undecided = f", {found.undecided:,} undecided" if found.undecided else ""
    counted = f"{found.worse:,} of {found.counts:,} {worse}{undecided}"
    return f"{name} | {counted} | {_worst(found.worst, what)} | {_gain(found.gain, what)} |"


def _worst(found: Worst | None, what: str) -> str:
    return f"{found.ratio:.2f}×{what} ({found.layer}, {found.count} of {found.of})" if found else "none"


def _gain(found: Gain | None, what: str) -> str:
    return f"{found.ratio:.2f}×{what} ({found.layer}, {found.advised} instead of {found.other})" if found else "none"
