"""What another library changes, for the terminal and as a Markdown table: the worst first, then the best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from neverslower.judge.verdict import Code, Interval
from neverslower.outcome.upgrade import Change

LISTED = 10
LONGEST_NAME = 36
"""Characters of a kernel's name that a table shows."""
_WORDS = ((Code.SLOWER, "slower"), (Code.FASTER, "faster"), (Code.SAME, "the same"), (Code.UNDECIDED, "undecided"))


def lost(alone: Mapping[str, str]) -> Iterator[str]:
    """Where the other library was lost on the way, and why; see Findings."""
    for name, reason in alone.items():
        yield f"the other library was lost beside {name}, and set against nothing from there on: {reason}"


def counted(changes: Sequence[Change]) -> str:
    """How many channel counts became what."""
    codes = Counter(one.code for one in changes)
    listed = [f"{codes.pop(code, 0)} {word}" for code, word in _WORDS]
    listed += [f"{count} {code}" for code, count in codes.items()]
    return f"new against old: {', '.join(listed)} (of {len(changes)} channel counts)"


def lines(changes: Sequence[Change]) -> Iterator[str]:
    """The summary on a terminal."""
    if not changes:
        return
    yield counted(changes)
    new, gone = sum(one.new_hazard for one in changes), sum(one.gone_hazard for one in changes)
    yield f"pruned against unpruned, new against old: {new} hazards are new, {gone} are gone"
    for code, word in _WORDS[:2]:
        found = _sorted(changes, code)
        if found:
            yield f"the {min(LISTED, len(found))} most {word} of {len(found)}:"
        yield from (f"  {one.ratio}  {one.id}: {one.what}" for one in found[:LISTED])


def table(changes: Sequence[Change], rows: int = LISTED) -> Iterator[str]:
    """Markdown: a row a layer that got slower, by its most slower channel count, then those that got faster."""
    yield "| layer | slower | faster | the most, new / old | pruned / unpruned there, old → new | what changed there |"
    yield "|---|---|---|---|---|---|"
    for code in (Code.SLOWER, Code.FASTER):
        first: dict[str, Change] = {}
        for one in _sorted(changes, code):
            first.setdefault(one.layer, one)
        for one in list(first.values())[:rows]:
            mine = Counter(other.code for other in changes if other.layer == one.layer)
            most = f"{one.channels} of {one.unpruned}, {one.ratio}"
            either = f"{_times(one.before)} → {_times(one.now)}"
            yield f"| {one.layer} | {mine[Code.SLOWER]} | {mine[Code.FASTER]} | {most} | {either} | {_cell(one.what)} |"


def _cell(text: str) -> str:
    """Words for a table: the names of kernels are cut."""
    return re.sub(rf"([^\s;,]{{{LONGEST_NAME}}})[^\s;,]+", r"\1…", text).replace("|", "\\|")


def _sorted(changes: Sequence[Change], code: Code) -> list[Change]:
    """Those of one verdict, the farthest from 1 first."""
    found = [(one.ratio.estimate, one) for one in changes if one.code is code and one.ratio]
    found.sort(key=lambda pair: -pair[0] if code is Code.SLOWER else pair[0])
    return [one for _, one in found]


def _times(ratio: Interval | None) -> str:
    return f"{ratio.estimate:.2f}×" if ratio else "–"
