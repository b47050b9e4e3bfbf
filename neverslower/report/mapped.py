"""Say what came of measuring a map: how many counts, how many decided, and what hindered the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
    decided = sum(count for code, count in codes.items() if code is not Code.UNDECIDED)
    listed = ", ".join(f"{codes[code]:,} {word}" for code, word in _WORDS.items() if codes[code])
    share = decided / asked if asked else 0.0
    took = f"{asked:,} channel counts in {mapped.seconds:.0f} s, {share:.1%} decided"
    yield f"{path}: {took}: {listed or 'none measured'}"
    for lost, count in findings.lost.items():
        yield f"{count:,} without a verdict: {str(lost).replace('_', ' ')}"
    for remark in findings.remarks.get(mapped.backend, ()):
        yield f"{mapped.backend}: {remark}"
    for unsound in findings.unsound.get(mapped.backend, ()):
        yield f"{mapped.backend}: {unsound}"
    if changed := findings.changed.get(mapped.backend):
        yield f"{mapped.backend}: the device changed while it was measured: {changed}"
