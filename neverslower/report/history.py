"""Report trends: a block for each device, with a row for each channel count and a column for each stored version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neverslower.baseline.history import Line, Point, Trend
from neverslower.evidence.observation import Evidence
from neverslower.report import words
from neverslower.report.reproduction import software


def lines(trends: Iterable[Trend]) -> Iterator[str]:
    """Yield every device's block; a row names a plan where it is the first one, or differs from the one before."""
    for trend in trends:
        yield f"{trend.folder}, {trend.evidence}"
        for number, run in enumerate(trend.runs, start=1):
            yield f"  ({number}) {run.path.name}: {software(run.fingerprint)}"
        layer = ""
        for line in trend.lines:
            if f"{line.layer} {line.format}" != layer:
                layer = f"{line.layer} {line.format}"
                yield f"  {layer}"
            yield f"    {line.kept:5} of {line.whole}: {'  →  '.join(_cells(line, trend.evidence))}"


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
