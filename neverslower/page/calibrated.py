"""Turn a device's calibration into the few figures that an account keeps: how finely it could tell."""

from __future__ import annotations

from dataclasses import replace

from neverslower.calibration.stored import Standing
from neverslower.page.account import Calibrated, Source
from neverslower.page.numbers import rounded


def with_calibration(source: Source, standing: Standing | None) -> Source:
    """Return a source with its device's calibration, or with a remark why the stored one does not hold."""
    if standing is None or standing == Standing():
        return source
    calibration = standing.calibration
    if calibration is None:
        return replace(source, remarks=(*source.remarks, f"its calibration does not hold: {standing.why}"))
    floor, mde = calibration.noise_floor, calibration.mde
    figures = Calibrated(
        date=calibration.date,
        preset=calibration.options.preset,
        blocks=calibration.judge.preset.most_blocks,
        comparisons=calibration.comparisons,
        slower=calibration.slower,
        slower_bound=rounded(calibration.slower_bound),
        noise_floor=None if floor is None else rounded(floor),
        mde=None if mde is None else rounded(mde),
    )
    return replace(source, calibration=figures)
