"""Plans that cuDNN built, kept for other processes: a plan that it compiles takes a quarter of a second to build."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from backends.cudnn.frontend import BuiltPlan, KeptPlan
from neverslower.errors import KeptFolderError
from neverslower.files.kept import KeptFolders
from neverslower.problem.convolution import ConvProblem


class PlanStore:
    """Keeps plans in a store, by problem and by `library`: everything that another plan might come from."""

    def __init__(self, store: KeptFolders, library: Mapping[str, str]) -> None:
        self._store, self._library = store, library

    def find(self, problem: ConvProblem) -> KeptPlan | None:
        """Return the plan that was kept of this problem, if it is whole."""
        folder = self._store.find(self._fields(problem))
        if folder is None:
            return None
        try:
            about = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
            return KeptPlan(BuiltPlan(**about["plan"]), int(about["offered"]), (folder / "plan.bin").read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def add(self, problem: ConvProblem, kept: KeptPlan) -> None:
        """Keep a plan; where nothing can be written it is built again each time."""

        def fill(folder: Path) -> None:
            about = {"plan": asdict(kept.plan), "offered": kept.offered}
            (folder / "plan.json").write_text(json.dumps(about), encoding="utf-8")
            (folder / "plan.bin").write_bytes(kept.content)

        with suppress(KeptFolderError):
            self._store.add(self._fields(problem), fill)

    def _fields(self, problem: ConvProblem) -> dict[str, str]:
        return {"kind": "cudnn plan", "problem": problem.key, **self._library}
