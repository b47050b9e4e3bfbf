"""How a pruned network is reported as a whole: its verdict, both times, and the layers behind the difference."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from neverslower.campaign.findings import Findings
from neverslower.judge.verdict import Code
from neverslower.outcome.whole import AssessedWhole, Explained
from neverslower.problem.whole import WholeComparison
from neverslower.report import properties as of_layers
from neverslower.report import words
from neverslower.report.reproduction import software
from neverslower.worker.process import WorkerSpec

PARTS = 3
"""So many layers are named, those that matter most."""
_WORDS = {Code.SLOWER: "slower", Code.SAME: "not slower", Code.FASTER: "faster"}
_DIFFERS = (Code.SLOWER, Code.FASTER)


def headline(comparison: WholeComparison) -> str:
    """Return such as `resnet18 on onednn, pruned, from end to end`."""
    return f"{comparison.title} on {comparison.backend}, pruned, from end to end"


def lines(assessed: AssessedWhole) -> Iterator[str]:
    """Yield what a whole network came to, and below it the layers that make the difference."""
    verdict, comparison = assessed.verdict, assessed.comparison
    said = _WORDS.get(verdict.code, str(verdict.code).lower())
    ratio = f" {verdict.ratio}" if verdict.ratio else ""
    times = f" ({_times(assessed.explained)})" if assessed.explained else ""
    yield f"whole network:{ratio} {said} end to end{times}  {comparison.id}"
    if verdict.code not in _WORDS:
        yield from (f"  {line}" for line in verdict.reason.text.splitlines())
    if assessed.explained:
        yield from (f"  {line}" for line in by_layer(assessed.explained, verdict.code))


def by_layer(explained: Explained, code: Code) -> Iterator[str]:
    """Yield the layers that matter most, and how much of the difference all of them explain.

    Of networks that are equally fast there is no difference to explain: those layers come first that differ most.
    """
    if parts := explained.parts:
        if code not in _DIFFERS:
            parts = tuple(sorted(parts, key=lambda part: -abs(part.seconds)))
        named = [f"{part.place} {words.signed_seconds(part.seconds)}" for part in parts[:PARTS]]
        more = len(parts) - PARTS
        listed = ", ".join(named) + (f", … and {more} more" if more > 0 else "")
        yield f"by layer: {listed}; the layers' sum is {_sum(explained, code)}"
    if explained.untimed:
        more = len(explained.untimed) - PARTS
        listed = ", ".join(explained.untimed[:PARTS]) + (f" and {more} more" if more > 0 else "")
        yield f"not timed by themselves, and so not in that sum: {listed}"


def _sum(explained: Explained, code: Code) -> str:
    """Return what the layers add up to, and the share of the difference that this is, where there is one."""
    total = words.signed_seconds(explained.of_layers)
    if code not in _DIFFERS or explained.share is None:
        return total
    difference = words.signed_seconds(explained.difference)
    if explained.share < 0:
        return f"{total}, which does not explain the difference of {difference}"
    return f"{total}, {explained.share:.0%} of the difference of {difference}"


def failure(assessed: AssessedWhole, findings: Findings, again: str) -> str:
    """Return the message of an item that fails; `again` is the pytest command that measures it again."""
    return "\n".join(_failure(assessed, findings, again))


def _failure(assessed: AssessedWhole, findings: Findings, again: str) -> Iterator[str]:
    comparison, verdict = assessed.comparison, assessed.verdict
    yield f"{assessed.finding}: {headline(comparison)}"
    yield f"  {verdict.code}{f' {verdict.ratio}' if verdict.ratio else ''}: {verdict.reason.text}"
    if fingerprint := findings.fingerprints.get(comparison.backend):
        yield f"  {software(fingerprint)} on {fingerprint.device}"
    if change := findings.marked.get(comparison.identity):
        yield f"  measured after the device's state changed: {change}"
    if assessed.explained:
        yield f"  times     {_times(assessed.explained)}"
        yield from (f"  {line}" for line in by_layer(assessed.explained, verdict.code))
    yield f"  original  {comparison.reference}"
    yield f"  pruned    {comparison.candidate}"
    yield f"  again     {again}"


def command_again(comparison: WholeComparison, test: str, spec: WorkerSpec, repeated: Sequence[str] = ()) -> str:
    """Return the pytest command that measures this one comparison again, as this run did.

    `test` is the test function, or its file.
    """
    formats = ("--dtype", str(comparison.candidate.dtype), "--layout", str(comparison.candidate.layout))
    named = f"{test}[{comparison.id}]" if "::" in test else test
    return shlex.join(["pytest", named, "--backend", spec.backend_spec, *comparison.options, *formats, *repeated])


def properties(assessed: AssessedWhole, findings: Findings) -> list[tuple[str, str]]:
    """Return (name, text) of finding, verdict, both networks, times and fingerprint for a JUnit file, where known."""
    result = findings.wholes.get(assessed.comparison.identity)
    plans = (result.reference.plan, result.candidate.plan) if result and result.reference and result.candidate else ()
    found = [
        *of_layers.of_verdict(assessed.finding, assessed.verdict),
        ("original", str(assessed.comparison.reference)),
        ("pruned", str(assessed.comparison.candidate)),
        ("plan", " → ".join(dict.fromkeys(map(str, plans)))),
        ("state changed", findings.marked.get(assessed.comparison.identity, "")),
    ]
    if why := assessed.explained:
        found += [("seconds of the original", f"{why.original:.6g}"), ("seconds", f"{why.pruned:.6g}")]
        found += [("seconds of the layers' difference", f"{why.of_layers:.6g}")] if why.parts else []
    fingerprint = findings.fingerprints.get(assessed.comparison.backend)
    found += list(of_layers.of_fingerprint(fingerprint)) if fingerprint else []
    return [(name, text) for name, text in found if text]


def _times(explained: Explained) -> str:
    return f"{words.seconds(explained.original)} → {words.seconds(explained.pruned)}"
