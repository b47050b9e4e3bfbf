"""What a JUnit file says of each verdict: names and texts, for machines that compare runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neverslower.campaign.findings import Findings
from neverslower.device.fingerprint import Fingerprint
from neverslower.judge.verdict import Verdict
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import Finding


def properties(assessed: Assessed, findings: Findings) -> list[tuple[str, str]]:
    """Return (name, text) of finding, verdict, ratio, layer, plans, cause and fingerprint, where known."""
    return [(name, text) for name, text in _all(assessed, findings) if text]


def _all(assessed: Assessed, findings: Findings) -> Iterator[tuple[str, str]]:
    identity = assessed.comparison.identity
    yield from of_verdict(assessed.finding, assessed.verdict)
    yield "problem", assessed.comparison.candidate.key
    yield "layer", assessed.comparison.layer.name
    yield "places", ", ".join(assessed.comparison.layer.places)
    result = findings.results.get(identity)
    if result:
        yield "plan of the reference", str(result.reference.plan) if result.reference else ""
        yield "plan", str(result.candidate.plan) if result.candidate else ""
    why = findings.explanations.get(identity)
    yield "cause", str(why.cause) if why else ""
    yield "state changed", findings.marked.get(identity, "")
    fingerprint = findings.fingerprints.get(assessed.comparison.backend)
    if fingerprint:
        yield from of_fingerprint(fingerprint)


def of_verdict(finding: Finding, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of a finding and its verdict."""
    yield "finding", str(finding)
    yield "verdict", str(verdict.code)
    yield "reason", str(verdict.reason.code)
    if verdict.ratio:
        yield "ratio", f"{verdict.ratio.estimate:.4f}"
        yield "ratio low", f"{verdict.ratio.low:.4f}"
        yield "ratio high", f"{verdict.ratio.high:.4f}"


def of_fingerprint(fingerprint: Fingerprint) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of a device and its software."""
    yield "backend", fingerprint.backend
    yield "version", fingerprint.version
    yield "build", fingerprint.build
    yield "device", fingerprint.device
    groups: Mapping[str, Mapping[str, str]] = {"hardware": fingerprint.hardware, "state": fingerprint.state}
    for group, fields in groups.items():
        yield from ((f"{group} {name}", text) for name, text in fields.items())
