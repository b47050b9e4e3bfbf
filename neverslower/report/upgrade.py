"""What another library changes, for the terminal and as a Markdown table: the worst first, then the best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from neverslower.counted import counted
from neverslower.evidence.observation import Evidence
from neverslower.judge.accuracy import GREW, LESS_EXACT
from neverslower.judge.verdict import Code, Interval
from neverslower.outcome.upgrade import Change

LISTED = 10
LONGEST_NAME = 36
"""Characters of a kernel's name that a table shows."""
_TABLED = ((Code.SLOWER, Code.MORE), (Code.FASTER, Code.FEWER))
_WORDS = ((Code.SLOWER, "slower"), (Code.FASTER, "faster"), (Code.SAME, "the same"), (Code.UNDECIDED, "undecided"))
_HEADS = {
    Evidence.DEVICE_TIME: ("slower", "faster"),
    Evidence.INSTRUCTIONS: ("with more instructions", "with fewer instructions"),
}
_COUNTED = {
    Evidence.DEVICE_TIME: ("", _WORDS),
    Evidence.INSTRUCTIONS: (
        "instructions, ",
        ((Code.MORE, "more"), (Code.FEWER, "fewer"), (Code.SAME, "the same")),
    ),
    Evidence.DISPATCH: ("dispatches, ", ((Code.CHANGED, "changed"), (Code.SAME, "the same"))),
}


def lost(alone: Mapping[str, str]) -> Iterator[str]:
    """Yield where the other library was lost on the way, and why; see Findings."""
    for name, reason in alone.items():
        yield f"the other library failed, and {name} was compared with nothing from then on: {reason}"


def totals(changes: Sequence[Change]) -> str:
    """Return how many channel counts became what, in the words of each kind of evidence."""
    kinds = {evidence: [one for one in changes if one.evidence is evidence] for evidence in _COUNTED}
    return "; ".join(_totals(evidence, mine) for evidence, mine in kinds.items() if mine)


def _totals(evidence: Evidence, changes: Sequence[Change]) -> str:
    title, words = _COUNTED[evidence]
    codes = Counter(change.proved for change in changes)
    unconfirmed = sum(change.unconfirmed for change in changes)
    apart = f" ({codes[Code.SLOWER] - unconfirmed} confirmed)" if unconfirmed else ""
    listed = [f"{codes.pop(code, 0)} {word}{apart if code is Code.SLOWER else ''}" for code, word in words]
    listed += [f"{count} {code}" for code, count in codes.items()]
    return f"{title}new against old: {', '.join(listed)} (of {counted(len(changes), 'channel count')})"


def lines(changes: Sequence[Change]) -> Iterator[str]:
    """Yield the summary on a terminal."""
    if not changes:
        return
    yield totals(changes)
    if any(change.evidence is not Evidence.DISPATCH for change in changes):
        new, gone = sum(change.new_hazard for change in changes), sum(change.gone_hazard for change in changes)
        yield f"pruned against unpruned, new against old: {counted(new, 'new hazard')}, {gone} gone"
    for code, word in _WORDS[:2]:
        ranked = _ranked([change for change in changes if change.code is code], largest=code is Code.SLOWER)
        yield from _most_changed(f"{word} than before", ranked)
    yield from not_shown_again(changes)
    yield from beyond_time(changes)


def not_shown_again(changes: Sequence[Change]) -> Iterator[str]:
    """Yield what the pairs prove slower, the worst first, where the time ended before one more pair."""
    ranked = _ranked([change for change in changes if change.unconfirmed], largest=True)
    yield from _most_changed("slower than before, not shown again yet", ranked)


def _most_changed(what: str, ranked: Sequence[Change]) -> Iterator[str]:
    if ranked:
        most = f", the most changed {LISTED}" if len(ranked) > LISTED else ""
        yield f"{len(ranked)} {what}{most}:"
    yield from (f"  {change.ratio}  {change.id}: {change.what}" for change in ranked[:LISTED])


def confirming(changes: Sequence[Change]) -> Iterator[str]:
    """Yield what confirms those that the pairs prove slower, where the run ended before one more pair."""
    if any(change.unconfirmed for change in changes):
        yield (
            "not confirmed: the run ended before a further pair showed it again; to do that, repeat its command with a "
            "longer --time-budget and --resume=JOURNAL"
        )


def untimed(count: int) -> str:
    """Return how many channel counts have outputs to compare, and no times."""
    have = "has" if count == 1 else "have"
    return f"{counted(count, 'channel count')} {have} no times of both libraries to compare: their outputs are compared"


def nothing_beyond_time(changes: Sequence[Change]) -> str:
    """Return that `beyond_time` has nothing to say."""
    if changes and all(change.evidence is Evidence.DISPATCH for change in changes):
        return "nothing is computed where a dispatch is recorded, so no outputs are compared"
    return f"no output is wrong or missing, none is {LESS_EXACT:g} times less exact, and nothing needs much more memory"


def beyond_time(changes: Sequence[Change]) -> Iterator[str]:
    """Yield which outputs are wrong, missing or less exact, and what needs much more workspace or time at first."""
    broke = [f"  {change.id}: {change.code}: {change.reason}" for change in changes if change.broke]
    exact = [f"  {change.id}: {change.less_exact}" for change in changes if change.less_exact]
    grew = [f"  {change.id}: {'; '.join(change.grew)}" for change in changes if change.grew]
    yield from _listed(f"outputs that are wrong or missing with the newer library alone: {len(broke)}", broke)
    yield from _listed(f"outputs that are {LESS_EXACT:g} times less exact, or more: {len(exact)}", exact)
    yield from _listed(f"more than {GREW:g} times the workspace, or the time of the first call: {len(grew)}", grew)


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"  … and {len(lines) - LISTED} more"


def table(changes: Sequence[Change], rows: int = LISTED) -> Iterator[str]:
    """Yield Markdown, a table for each kind of evidence: a row a layer that got slower, by its most slower channel
    count, then those that got faster; the same of instructions; and a row a layer that is dispatched differently.

    Nothing where no channel count is proved to have become any of it; what is not confirmed is among the slower ones.
    """
    tables = []
    for evidence in _COUNTED:
        mine = [change for change in changes if change.evidence is evidence]
        made = _dispatched(mine, rows) if evidence is Evidence.DISPATCH else _ratios(mine, evidence, rows)
        tables.append("\n".join(made))
    if text := "\n\n".join(filter(None, tables)):
        yield from text.split("\n")


def _ratios(changes: Sequence[Change], evidence: Evidence, rows: int) -> Iterator[str]:
    if not any(_tabled(changes, *codes) for codes in _TABLED):
        return
    heads = " | ".join(_HEADS[evidence])
    yield f"| layer | {heads} | the most, new / old | pruned / unpruned there, old → new | what changed there |"
    yield "|---|---|---|---|---|---|"
    for codes in _TABLED:
        first: dict[str, Change] = {}
        for change in _tabled(changes, *codes):
            first.setdefault(change.layer, change)
        for change in list(first.values())[:rows]:
            mine = [other for other in changes if other.layer == change.layer]
            most = f"{change.channels} of {change.unpruned}, {change.ratio}"
            either = f"{_times(change.before)} → {_times(change.now)}"
            counts = " | ".join(_how_many(mine, *alike) for alike in _TABLED)
            yield f"| {change.layer} | {counts} | {most} | {either} | {_cell(change.what)} |"


def _dispatched(changes: Sequence[Change], rows: int) -> Iterator[str]:
    first: dict[str, Change] = {}
    for change in changes:
        if change.code is Code.CHANGED:
            first.setdefault(change.layer, change)
    if not first:
        return
    yield "| layer | dispatched differently | such as | what changed there |"
    yield "|---|---|---|---|"
    for change in list(first.values())[:rows]:
        alike = [other for other in changes if other.layer == change.layer]
        count = f"{sum(other.code is Code.CHANGED for other in alike)} of {len(alike)}"
        yield f"| {change.layer} | {count} | {change.channels} of {change.unpruned} | {_cell(change.reason)} |"
    if len(first) > rows:
        yield f"| … and {len(first) - rows} more layers | | | |"


def _how_many(mine: Sequence[Change], *codes: Code) -> str:
    """Return how many of a layer's channel counts became slower, or faster, and of how many that is confirmed."""
    became = [change for change in mine if change.proved in codes]
    confirmed = sum(not change.unconfirmed for change in became)
    return str(len(became)) + (f" ({confirmed} confirmed)" if confirmed < len(became) else "")


def _tabled(changes: Sequence[Change], *codes: Code) -> list[Change]:
    """Return what was proved of changes, confirmed or not, the farthest from 1 first."""
    return _ranked([change for change in changes if change.proved in codes], largest=codes[0] is Code.SLOWER)


def without_a_table(changes: Sequence[Change]) -> str:
    """Return what is said where nothing is proved to have changed, and so the table has no row."""
    kinds = {change.evidence for change in changes}
    said = [_HEADS[evidence] for evidence in _COUNTED if evidence in kinds and evidence is not Evidence.DISPATCH]
    proved = [f"proved {worse} or {better}" for worse, better in said]
    listed = [*proved, "dispatched differently"] if Evidence.DISPATCH in kinds else proved
    text = f"no channel count is {', or '.join(listed)}, so there is no table"
    undecided = sum(change.proved is Code.UNDECIDED for change in changes)
    more = "; measure longer, with a larger --time-budget or --preset=thorough, or on a quieter device"
    return f"{text}; {undecided} are undecided{more}" if undecided else text


def _cell(text: str) -> str:
    """Return words for a table: the names of kernels are cut."""
    return re.sub(rf"([^\s;,]{{{LONGEST_NAME}}})[^\s;,]+", r"\1…", text).replace("|", "\\|")


def _ranked(changes: Sequence[Change], largest: bool) -> list[Change]:
    """Return the changes that have a ratio, by it: the largest first, or the smallest."""
    ranked = [(change.ratio.estimate, change) for change in changes if change.ratio]
    return [change for _, change in sorted(ranked, key=lambda pair: -pair[0] if largest else pair[0])]


def _times(ratio: Interval | None) -> str:
    return f"{ratio.estimate:.2f}×" if ratio else "–"
