"""The calibration that lies beside a device's baselines: writing it, reading it, and how a device stands to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.calibration.figures import Calibration, CalibrationOptions, LayerFigures, noise
from neverslower.campaign.findings import Findings
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import CalibrationError
from neverslower.files.fields import field, fingerprint_of, finite, read_json, values, word
from neverslower.files.writing import write_whole
from neverslower.judge.sequential import PRESETS
from neverslower.judge.verdict import Code

FILE = "calibration.json"
"""The calibration's name in a device's folder of baselines."""
SCHEMA = 1
NOISE_DIFFERS = 2.0
"""A run's noise beyond so many times the calibration's, or as many times below it, is another noise."""


def save(root: Path, calibration: Calibration) -> Path:
    """Write it as the device's calibration, in the place of an earlier one. Raises CalibrationError."""
    folder = root / calibration.fingerprint.folder
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_dict(calibration), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(path, text + "\n")
    except OSError as error:
        text = f"{path} can't be written: {error.strerror}; mend that, or name another folder with --baselines"
        raise CalibrationError(text) from error
    return path


def as_dict(calibration: Calibration) -> dict[str, Any]:
    """A calibration as plain data; what is `overall` follows from the layers, and is there for other readers."""
    names = ("comparisons", "slower", "slower_bound", "noise", "noise_floor", "mde", "process_deviation", "drift")
    layers = [asdict(one) | {"comparisons": one.comparisons, "slower": one.slower} for one in calibration.layers]
    return {
        "schema": SCHEMA,
        **{name: getattr(calibration, name) for name in ("date", "processes", "seconds")},
        "options": asdict(calibration.options),
        "overall": {name: getattr(calibration, name) for name in names},
        **{name: getattr(calibration, name) for name in ("common_deviation", "block_length")},
        "unsound": list(calibration.unsound),
        "layers": layers,
        "fingerprint": calibration.fingerprint.as_dict(),
    }


def load(path: Path) -> Calibration:
    """Read a calibration. Raises CalibrationError, naming the file, what is wrong in it and the remedy."""
    content = read_json(path, "calibration", "calibrate again", CalibrationError)
    try:
        schema = field(content, "schema", int)
        if schema > SCHEMA:
            raise CalibrationError(f"calibration {path}: schema {schema} is newer than {SCHEMA}; update never-slower")
        return _read(content)
    except ValueError as error:
        raise CalibrationError(f"calibration {path}: not a calibration ({error}); calibrate again") from None


def _read(content: Mapping[str, Any]) -> Calibration:
    stored = field(content, "fingerprint", dict)
    length = content.get("block_length")
    layers = tuple(_read_layer(one) for one in values(content, "layers", dict))
    if not layers:
        raise ValueError("it has no layers")
    date = word(content, "date")
    datetime.fromisoformat(date)
    return Calibration(
        fingerprint=fingerprint_of({word(stored, "backend"): stored}, stored["backend"]),
        date=date,
        options=_read_options(field(content, "options", dict)),
        layers=layers,
        processes=field(content, "processes", int),
        seconds=_amount(content, "seconds"),
        common_deviation=_amount(content, "common_deviation"),
        block_length=None if length is None else field(content, "block_length", int),
        unsound=tuple(values(content, "unsound", str)),
    )


def _read_options(stored: Mapping[str, Any]) -> CalibrationOptions:
    preset = word(stored, "preset")
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}")
    return CalibrationOptions(
        word(stored, "argument"), field(stored, "threads", int), preset, field(stored, "comparisons", int)
    )


def _read_layer(stored: Mapping[str, Any]) -> LayerFigures:
    verdicts = {str(Code(code)): field({code: count}, code, int) for code, count in
                field(stored, "verdicts", dict).items()}  # fmt: skip
    return LayerFigures(
        name=word(stored, "name"),
        problem=word(stored, "problem"),
        seconds=_amount(stored, "seconds"),
        passes=field(stored, "passes", int),
        verdicts=verdicts,
        noise=_amount(stored, "noise"),
        noise_floor=_amount_if_any(stored, "noise_floor"),
        mde=_amount_if_any(stored, "mde"),
        process_deviation=_amount(stored, "process_deviation"),
        drift=finite("drift", stored.get("drift")),
    )


def _amount(record: Mapping[str, Any], name: str) -> float:
    """A field that is a number, and not a negative one."""
    value = finite(name, record.get(name))
    if value < 0:
        raise ValueError(f"{name} is {value}")
    return value


def _amount_if_any(record: Mapping[str, Any], name: str) -> float | None:
    return None if record.get(name, 0) is None else _amount(record, name)


@dataclass(frozen=True)
class Standing:
    """The calibration that counts for a device as it is now, or `why` what is stored does not."""

    calibration: Calibration | None = None
    why: str = ""


def standing(root: Path, fingerprint: Fingerprint) -> Standing:
    """What is stored for a device; of another device or state, or one that can't be read, it doesn't count."""
    path = root / fingerprint.folder / FILE
    if not os.path.lexists(path):
        return Standing()
    try:
        found = load(path)
    except CalibrationError as error:
        return Standing(why=str(error))
    if obstacles := fingerprint.obstacles(found.fingerprint):
        return Standing(why=f"calibrated in another state: {'; '.join(obstacles)}")
    return Standing(found)


@dataclass(frozen=True)
class NoiseSince:
    """The noise of layers that were calibrated and of the same layers in a run, medians of both."""

    then: float
    now: float
    layers: int

    @property
    def differs(self) -> bool:
        """Whether the run's noise is another one."""
        return not self.then / NOISE_DIFFERS <= self.now <= self.then * NOISE_DIFFERS


def noise_since(calibration: Calibration, findings: Findings) -> NoiseSince | None:
    """The noise of a run's own A/A comparisons beside the calibration's, None where they have no layer in common.

    Layers differ in noise, so each is set against itself only; what the medians are taken of is the same layers.
    """
    then = {one.problem: one.noise for one in calibration.layers}
    now = {
        result.comparison.keys[0]: noise(result.passes)
        for result in findings.results.values()
        if result.comparison.backend == calibration.fingerprint.backend
        and result.comparison.against_itself
        and any(len(one.seconds) for one in result.passes)
    }
    common = sorted(set(then) & set(now))
    if not common:
        return None
    before, after = (float(np.median([noises[key] for key in common])) for noises in (then, now))
    return NoiseSince(before, after, len(common))
