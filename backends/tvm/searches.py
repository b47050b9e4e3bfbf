"""Makes searches for schedules, each once for all runs of this user, and opens the databases that they leave."""

from __future__ import annotations

import time
from pathlib import Path

from backends.tvm import databases
from backends.tvm.api import Api
from backends.tvm.search import METHOD, search
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Searched
from neverslower.files.kept import KeptFolders
from neverslower.problem.subject import Search

FAILED = 1e10
"""The seconds that MetaSchedule records for a candidate that could not be built or run."""


class Searches:
    """The searches of one tvm for one target; `made_by` are the fields of their keys that name both."""

    def __init__(self, api: Api, kept: KeptFolders, made_by: dict[str, str]) -> None:
        self._api, self._kept, self._made_by = api, kept, made_by
        self._opened: dict[Search, databases.Database] = {}

    def fields(self, wanted: Search) -> dict[str, str]:
        """Return the key by which a search is kept."""
        return {"kind": "search", "search": str(wanted), "method": METHOD} | self._made_by

    def make(self, wanted: Search) -> Searched:
        """Search, unless the same search was made before. Raises Unsupported where it finds nothing that runs."""
        begin = time.perf_counter()
        before = self._kept.find(self.fields(wanted))
        folder = before or self._kept.add(self.fields(wanted), lambda new: self._search(wanted, new))
        database, times = self._outcome(wanted, folder)
        seconds = time.perf_counter() - begin
        target = self._api.named(self._api.target)
        return Searched(database.hash, target, len(times), min(times), seconds, before is not None)

    def database(self, wanted: Search) -> databases.Database:
        """Return what a search left. Raises Unsupported where it has not been made."""
        if wanted not in self._opened:
            folder = self._kept.find(self.fields(wanted))
            if folder is None:
                raise Unsupported(f"the search {wanted} has not been made")
            self._opened[wanted] = databases.read(folder, self._api)
        return self._opened[wanted]

    def _search(self, wanted: Search, folder: Path) -> None:
        """Search into a folder. Raises Unsupported where nothing was found, so that a passing failure is not kept."""
        failed = search(self._api, wanted, folder)
        try:
            self._outcome(wanted, folder)
        except Unsupported as error:
            raise Unsupported(f"{error}{f': {failed[0]}' if failed else ''}") from error

    def _outcome(self, wanted: Search, folder: Path) -> tuple[databases.Database, list[float]]:
        """Return the database of a search and each candidate's best time in seconds. Raises Unsupported if none ran."""
        database = databases.read(folder, self._api)
        records = database.records.get_all_tuning_records() if database.records is not None else []
        times = [float(min(record.run_secs, default=FAILED)) for record in records]
        if min(times, default=FAILED) >= FAILED:
            raise Unsupported(f"the search {wanted} found no schedule that runs ({len(times)} candidates)")
        return database, times
