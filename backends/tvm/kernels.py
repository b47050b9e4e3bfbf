"""Compiles subjects, each once for all runs of this user, by a database's schedules or by none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from backends.tvm.api import Api
from backends.tvm.databases import Database
from backends.tvm.health import Installed
from backends.tvm.searches import Searches
from neverslower.errors import Unsupported
from neverslower.files.kept import KeptFolders
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.subject import Subject, TunedLog

KERNEL, PLAN = "kernel.so", "plan.json"
RECIPE = "1"
"""Counts the ways in which this adapter has put a problem to TVM; part of the key of kept kernels and logs."""


class Kernels:
    """The compiled subjects of one tvm for one target; `made_by` are the fields of their keys that name both.

    `database` is the user's own, by which whatever no search schedules is scheduled, if there is one.
    """

    def __init__(
        self, api: Api, kept: KeptFolders, made_by: dict[str, str], searches: Searches, database: Database | None
    ) -> None:
        self._api, self._kept, self._made_by = api, kept, made_by
        self.searches, self.database = searches, database

    def fields(self, subject: Subject) -> dict[str, str]:
        """Return the key of a kernel. Raises Unsupported where the search that schedules it has not been made."""
        database = self.database_of(TunedLog.parse(subject.policy))
        # By the content of the database and not by the search's name: a search made again gives other schedules.
        schedule = f"database {database.hash}" if database and database.records is not None else "untuned"
        return {"kind": "kernel", "subject": subject.key, "schedule": schedule} | self._made_by

    def database_of(self, log: TunedLog | None) -> Database | None:
        """Return the database that schedules what has this log. Raises Unsupported where its search was not made."""
        return self.searches.database(log.search) if log else self.database

    def find(self, subject: Subject) -> Path | None:
        """Return the folder of the compiled subject, None where it is yet to be compiled."""
        try:
            return self._kept.find(self.fields(subject))
        except Unsupported:  # Its search has not been made.
            return None

    def compile(self, subject: Subject) -> Path:
        """Return the folder of the compiled subject, kept or made now. Raises Unsupported with TVM's words."""
        fields = self.fields(subject)
        if folder := self._kept.find(fields):
            return folder
        return self._kept.add(fields, lambda new: self._build(subject, new))

    def _build(self, subject: Subject, folder: Path) -> None:
        compiled, about = self.built(subject)
        # Writing and linking may fail for want of room, which says nothing about the problem.
        self._api.export(compiled, folder / KERNEL)
        (folder / PLAN).write_text(json.dumps(about), encoding="utf-8")

    def built(self, subject: Subject) -> tuple[Any, dict[str, Any]]:
        """Return a compiled subject, and what a plan tells of it. Raises Unsupported with TVM's words."""
        database = self.database_of(TunedLog.parse(subject.policy))
        try:
            lowered = self._api.lowered(computed(subject), database.records if database else None)
            return self._api.built(lowered)
        except Unsupported:
            raise
        except Exception as error:
            raise Unsupported(f"tvm does not compile it: {self._api.words(error)}") from error


def computed(subject: Subject) -> ConvProblem:
    """Return the problem that a subject's kernel computes: a larger one where it is padded to what was searched for."""
    log = TunedLog.parse(subject.policy)
    return log.search.problem if log and log.padded else subject.problem


def read(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what a plan tells of a compiled subject, and a hash of its code."""
    about: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    return about, hashlib.sha256((folder / KERNEL).read_bytes()).hexdigest()[:16]


def kernels_of(
    api: Api,
    installed: Installed,
    kept: KeptFolders,
    database: Database | None = None,
    compiler: str = "",
    searched_on: str = "",
) -> Kernels:
    """Return the kernels of an installed tvm; other environments of this user keep theirs in the same folder.

    `compiler` names what compiles kernels besides TVM, and `searched_on` the GPU that times the candidates of searches:
    the target is an architecture, which GPUs of several models have, and a log is of the one that timed it.
    """
    tvm = {"tvm": api.version, "ffi": installed.ffi, "build": installed.build}
    made_by = {"target": str(api.target), "recipe": RECIPE} | tvm
    if compiler:
        made_by["kernel compiler"] = compiler
    searches = Searches(api, kept, made_by | ({"gpu": searched_on} if searched_on else {}))
    return Kernels(api, kept, made_by, searches, database)
