"""Say what came of measuring a map: how many counts, how many decided, and what hindered the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from neverslower.campaign.findings import Findings
from neverslower.counted import counted
from neverslower.judge.verdict import Code
from neverslower.maps.mapping import Mapped

_WORDS = {
    Code.SLOWER: "slower",
    Code.SAME: "not slower",
    Code.FASTER: "faster",
    Code.MORE: "with more instructions",
    Code.FEWER: "with fewer instructions",
    Code.UNDECIDED: "undecided",
    Code.UNSUPPORTED: "unsupported",
    Code.INVALID: "invalid",
    Code.CRASHED: "crashed",
}


def mapped_lines(path: Path, mapped: Mapped) -> Iterator[str]:
    """Yield the lines that a user reads after measuring."""
    findings = mapped.findings
    codes = Counter(result.verdict.code for result in findings.results.values())
    asked = sum(findings.wanted.values())
    listed = ", ".join(f"{codes[code]:,} {word}" for code, word in _WORDS.items() if codes[code])
    share = mapped.decided / asked if asked else 0.0
    took = f"{counted(asked, 'channel count')} in {mapped.seconds:.0f} s, {share:.1%} decided"
    yield f"{path}: {took}: {listed or 'none measured'}"
    if left := sum(len(inferred.counts) for inferred in mapped.inferred.values()):
        were = "count was" if left == 1 else "counts were"
        yield f"{left:,} other {were} not timed: the map has costs inferred from the timed ones, and no verdict"
    if unknown := mapped.unknown:
        are = "count is" if unknown == 1 else "counts are"
        yield f"{unknown:,} {are} neither timed nor inferred: the time ended before the curves were complete"
    for lost, count in findings.lost.items():
        yield f"{count:,} without a verdict: {str(lost).replace('_', ' ')}"
    for name, why in mapped.unmeasured().items():
        yield f"{name}: nothing of it was measured: {why}"
    yield from device_lines(mapped.backend, findings)


def device_lines(backend: str, findings: Findings) -> Iterator[str]:
    """Yield what is to be known of a device while it measured: remarks, what was unsound, changed, or made it unfit."""
    for remark in findings.remarks.get(backend, ()):
        yield f"{backend}: {remark}"
    for unsound in findings.unsound.get(backend, ()):
        yield f"{backend}: {unsound}"
    if changed := findings.changed.get(backend):
        yield f"{backend}: the device changed while it was measured: {changed}"
    if spoiled := findings.spoiled.get(backend):
        yield f"{backend}: its device became unfit while it was measured: {spoiled.why}"
