"""Keeps how far processes scattered on a device, next to the journals: a later run of few layers is judged by it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from neverslower.campaign.findings import Findings
from neverslower.campaign.judging import layer_of
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import CalibrationError
from neverslower.files.fields import field, fingerprint_of, read_json
from neverslower.files.writing import write_whole
from neverslower.judge.joint import can_pool, processes_of
from neverslower.judge.pooled import Scatter
from neverslower.judge.verdict import STANDARD, bad_samples

FOLDER = "scatter"


def save(folder: Path, findings: Findings, blocks: int) -> None:
    """Keep the scatter of each backend whose layers are enough for it, by passes of so many blocks.

    A folder that can't be written keeps none.
    """
    for name, fingerprint in findings.fingerprints.items():
        scatter = scatter_of(findings, name)
        if can_pool(len(scatter.layers), None):
            with suppress(OSError):
                _write(_path(folder, fingerprint), fingerprint, scatter, blocks)


def load(folder: Path, fingerprint: Fingerprint, blocks: int) -> Scatter | None:
    """Return the scatter that an earlier run kept of this device in this state, with this very software, if any.

    Its passes had so many `blocks`, for that decides how far they scatter.
    """
    path = _path(folder, fingerprint)
    if not path.exists():
        return None
    try:
        content = read_json(path, "scatter", "it is measured again", CalibrationError)
        stored = fingerprint_of({fingerprint.backend: field(content, "fingerprint", dict)}, fingerprint.backend)
        scatter = Scatter.from_dict(content)
    except (CalibrationError, ValueError, KeyError, TypeError):
        return None  # It is a by-product of a run: the next one of many layers writes it anew.
    then, now = (stored.version, stored.build, content.get("blocks")), (fingerprint.version, fingerprint.build, blocks)
    return scatter if then == now and not fingerprint.changes(stored) else None


def scatter_of(findings: Findings, backend: str) -> Scatter:
    """Return how far the first two processes of each comparison of a backend lie apart, by layer."""
    passes = {
        identity: result.passes
        for identity, result in findings.results.items()
        if result.comparison.backend == backend and not bad_samples(result.passes, STANDARD.most_discarded)
    }
    day = datetime.now(timezone.utc).date().isoformat()
    return Scatter.of(processes_of(passes, layer_of), f"a run of {day}") if passes else Scatter("", ())


def _path(folder: Path, fingerprint: Fingerprint) -> Path:
    return folder / FOLDER / f"{fingerprint.folder}.json"


def _write(path: Path, fingerprint: Fingerprint, scatter: Scatter, blocks: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"fingerprint": fingerprint.as_dict(), "blocks": blocks} | asdict(scatter)
    write_whole(path, json.dumps(content) + "\n")
