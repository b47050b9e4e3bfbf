"""A trend as lines: a block a device, a row a channel count, a column a stored version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neverslower.baseline.history import Line, Point, Trend
from neverslower.evidence.observation import Evidence
from neverslower.report import words
from neverslower.report.reproduction import software


def lines(trends: Iterable[Trend]) -> Iterator[str]:
    """Every device's block; a plan is written where it is the first one or another than before."""
    for one in trends:
        yield f"{one.folder}, {one.evidence}"
        for number, run in enumerate(one.runs, start=1):
            yield f"  ({number}) {run.path.name}: {software(run.fingerprint)}"
        layer = ""
        for line in one.lines:
            if f"{line.layer} {line.format}" != layer:
                layer = f"{line.layer} {line.format}"
                yield f"  {layer}"
            yield f"    {line.kept:5} of {line.whole}: {'  →  '.join(_cells(line, one.evidence))}"


def _cells(line: Line, evidence: Evidence) -> Iterator[str]:
    plan = ""
    for point in line.points:
        if point is None:
            yield "not stored"
            continue
        yield f"{_amount(point, evidence)}{'' if point.plan == plan else f' {point.plan}'}"
        plan = point.plan


def _amount(point: Point, evidence: Evidence) -> str:
    ratio = f"{point.ratio.estimate:.3f}×" if point.ratio else ""
    if point.amount is None:
        return ratio or "dispatched:"
    amount = words.seconds(point.amount) if evidence is Evidence.DEVICE_TIME else f"{point.amount:,.0f} instructions"
    return f"{amount} {ratio}".strip()
