"""Open databases of tuning records, identify them by a hash, and drop records of other targets.

TVM applies a record without looking at the CPU that it was made on (apache/tvm#15549), and can't open a database
that another release wrote; both are reported here instead of passed over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.tvm.api import Api
from neverslower.errors import Unavailable

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
"""The files that a MetaSchedule work folder holds."""
FORMS = "tvm:FOLDER or tvm:cuda,database=FOLDER"
"""How a work folder is given."""


@dataclass(frozen=True, eq=False)
class Database:
    """A user's or a search's database; `records` is None where this TVM can't open it.

    `hash` identifies it, `shapes` is how many shapes it was tuned for, `remarks` are for the user.
    """

    hash: str
    shapes: int
    records: Any = None
    remarks: tuple[str, ...] = ()


def read(folder: Path, api: Api) -> Database:
    """Open a work folder. Raises Unavailable where it is none, or holds nothing for this target."""
    name, shapes = identify(folder)
    try:
        _require_lists(folder)
        stored = api.meta_schedule.database.JSONDatabase(work_dir=str(folder), allow_missing=False)
        records = list(stored.get_all_tuning_records())
    except Exception as error:  # noqa: BLE001  Whatever the reader raises means that this release can't read it.
        why = (str(error).strip().splitlines() or ["no reason given"])[-1]
        lost = "its one shape falls back" if shapes == 1 else f"its {shapes} shapes fall back"
        remark = f"{folder}: tvm {api.version} can't open it ({why}); {lost} to untuned"
        return Database(name, shapes, None, (remark,))
    return _of_this_target(folder, name, shapes, records, api)


def identify(folder: Path) -> tuple[str, int]:
    """Return (hash of the files, number of shapes), without TVM. Raises Unavailable where a file is missing."""
    digest = hashlib.sha256()
    for file in (WORKLOADS, RECORDS):
        try:
            digest.update((folder / file).read_bytes())
        except OSError as error:
            if tuner := _log_of(folder):
                why = f"{folder}: a log of {tuner}, which this TVM can't apply; tune again with MetaSchedule, and"
            else:
                why = f"{folder / file}: {error.strerror};"
            raise Unavailable(f"{why} give the work folder of a MetaSchedule search, {FORMS}") from error
    lines = (folder / WORKLOADS).read_text(encoding="utf-8", errors="replace").splitlines()
    return digest.hexdigest()[:12], sum(bool(line.strip()) for line in lines)


def _log_of(path: Path) -> str:
    """Return which of TVM's older tuners wrote a log, by its first line; empty where none of them did."""
    try:
        with path.open(encoding="utf-8") as file:
            record = json.loads(file.readline())
    except (OSError, ValueError):
        return ""
    fields = set(record) if isinstance(record, dict) else set()
    return "AutoTVM" if {"input", "config", "result"} <= fields else "AutoScheduler" if {"i", "r"} <= fields else ""


def _require_lists(folder: Path) -> None:
    """Raise ValueError for a line that is no JSON list: TVM 0.27 crashes on one, even on an empty one."""
    for file in (WORKLOADS, RECORDS):
        lines = (folder / file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line.startswith("[") and lines != [""]:
                raise ValueError(f"{file}, line {number}: not a list")


def _of_this_target(folder: Path, name: str, shapes: int, records: list[Any], api: Api) -> Database:
    """Return a database of those records that were made on this target. Raises Unavailable where there are none."""
    kept = [record for record in records if api.named(record.target) == api.named(api.target)]
    foreign = sorted({api.named(record.target) for record in records} - {api.named(api.target)})
    if not kept and foreign:
        text = f"{folder}: its {len(records)} records are of another target, {'; '.join(foreign)}"
        raise Unavailable(f"{text}; this is {api.named(api.target)}: {api.retune}")
    if not foreign:
        return Database(name, shapes, _memory(kept, api))
    remark = (
        f"{folder}: {len(records) - len(kept)} of {len(records)} records are of another target ({'; '.join(foreign)})"
    )
    return Database(name, shapes, _memory(kept, api), (f"{remark} and refused; this is {api.named(api.target)}",))


def _memory(records: list[Any], api: Api) -> Any:
    """Return a database in memory that holds these records."""
    memory = api.meta_schedule.database.MemoryDatabase()
    for record in records:
        memory.commit_workload(record.workload.mod)
        memory.commit_tuning_record(record)
    return memory
