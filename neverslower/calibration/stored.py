"""Write and read the calibration that lies next to a device's baselines, and check whether it holds now."""

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
"""A run's noise that is larger than the calibration's by this factor, or smaller, counts as different."""


def save(root: Path, calibration: Calibration) -> Path:
    """Write a calibration in the place of the device's earlier one, and return its path. Raises CalibrationError."""
    folder = root / calibration.fingerprint.folder
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_dict(calibration), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(path, text + "\n")
    except OSError as error:
        text = f"{path} can't be written: {error.strerror}; fix that, or name another folder with --baselines"
        raise CalibrationError(text) from error
    return path


def as_dict(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain data; `overall` follows from the layers, and is stored for other readers."""
    names = ("comparisons", "slower", "slower_bound", "noise", "noise_floor", "mde", "process_deviation", "drift")
    layers = [
        asdict(layer) | {"comparisons": layer.comparisons, "slower": layer.slower} for layer in calibration.layers
    ]
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
    layers = tuple(_read_layer(layer) for layer in values(content, "layers", dict))
    if not layers:
        raise ValueError("it has no layers")
    date = word(content, "date")
    datetime.fromisoformat(date)  # Raises ValueError where it is no date.
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
    """Return a field that is a number, and not a negative one. Raises ValueError."""
    value = finite(name, record.get(name))
    if value < 0:
        raise ValueError(f"{name} is {value}")
    return value


def _amount_if_any(record: Mapping[str, Any], name: str) -> float | None:
    return None if record.get(name, 0) is None else _amount(record, name)


@dataclass(frozen=True)
class Standing:
    """The calibration that holds for a device as it is now, or `why` the stored one does not; neither without one."""

    calibration: Calibration | None = None
    why: str = ""


def standing(root: Path, fingerprint: Fingerprint) -> Standing:
    """Return the calibration stored for a device, or why it does not hold: it can't be read, or its state differs."""
    path = root / fingerprint.folder / FILE
    if not os.path.lexists(path):
        return Standing()
    try:
        calibration = load(path)
    except CalibrationError as error:
        return Standing(why=str(error))
    if obstacles := fingerprint.obstacles(calibration.fingerprint):
        return Standing(why=f"calibrated in another state: {'; '.join(obstacles)}")
    return Standing(calibration)


@dataclass(frozen=True)
class NoiseSince:
    """The median noise of the same `layers` in a calibration (`then`) and in a run (`now`)."""

    then: float
    now: float
    layers: int

    @property
    def differs(self) -> bool:
        """Tell whether the run's noise differs by more than NOISE_DIFFERS."""
        return not self.then / NOISE_DIFFERS <= self.now <= self.then * NOISE_DIFFERS


def noise_since(calibration: Calibration, findings: Findings) -> NoiseSince | None:
    """Compare the noise of a run's own A/A comparisons with the calibration's; None where they share no layer.

    Layers differ in noise, so both medians are taken of the layers that both have.
    """
    then = {layer.problem: layer.noise for layer in calibration.layers}
    now = {
        result.comparison.keys[0]: noise(result.passes)
        for result in findings.results.values()
        if result.comparison.backend == calibration.fingerprint.backend
        and result.comparison.against_itself
        and any(len(pass_.seconds) for pass_ in result.passes)
    }
    common = sorted(set(then) & set(now))
    if not common:
        return None
    before, after = (float(np.median([noises[key] for key in common])) for noises in (then, now))
    return NoiseSince(before, after, len(common))
