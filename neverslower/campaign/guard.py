"""Watches the device's state while a campaign measures: before, now and then, after each pass, and at the end.

Every look is in the journal. An unsound state at the beginning refuses the campaign, or is told; one that changes
later marks what was measured since the last look that was sound, and everything after it. What makes measuring
pointless also spoils the run, unless the user told it to measure anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from neverslower.campaign.findings import Findings
from neverslower.device.state import State
from neverslower.errors import Unavailable, WorkerDied, WorkerError
from neverslower.evidence.observation import Evidence
from neverslower.problem.compared import Compared

EVERY = 10.0
"""Seconds between two looks, each of which takes some milliseconds."""


class Looker(Protocol):
    """A worker that can tell its device's state."""

    @property
    def evidence(self) -> Evidence:
        """Return what kind of evidence it gives."""

    def state(self) -> State:
        """Return the state now."""


class Guard:
    """Watches one campaign; `write` is the journal's, and `refuse` says whether an unsound device ends the run."""

    def __init__(
        self,
        findings: Findings,
        write: Callable[[str, Mapping[str, Any]], None],
        refuse: bool,
        clock: Callable[[], float],
    ) -> None:
        self._findings, self._write, self._refuse, self._clock = findings, write, refuse, clock
        self._first: State | None = None
        self._changed, self._worse = "", ""
        self._since: list[Compared] = []
        self._due = 0.0

    def begin(self, backend: str, worker: Looker) -> State | None:
        """Take the first look, and return the state, or None where there is nothing to look at.

        Raises Unavailable for a device on which measuring is pointless, unless told to go on. What is exact is
        the same in every state.
        """
        self._first, self._changed, self._worse, self._since = None, "", "", []
        if worker.evidence.exact:
            return None
        self._first = first = self._look(backend, worker, "before")
        if first is None:
            return None
        self._findings.doubt(backend, first.unsound)
        if first.grave and self._refuse:
            self._findings.refuse(backend)
            found = "; ".join(map(str, first.grave))
            raise Unavailable(f"its device is unsound for timing: {found}; or measure anyway: --unsound warn")
        return first

    def measured(self, comparison: Compared, worker: Looker | None) -> None:
        """Note that a comparison was measured just now, and look if the last look is long ago."""
        if self._first is None:
            return
        if self._changed:
            self._since = [comparison]  # Those before it are marked already.
            self._mark()
            return
        self._since.append(comparison)
        if worker and self._clock() >= self._due:
            self.look(comparison.backend, worker, "during")

    def look(self, backend: str, worker: Looker | None, when: str) -> None:
        """Look now, and mark what was measured since the last look if something is otherwise."""
        if self._first is None or worker is None:
            return
        state = self._look(backend, worker, when)
        changes = state.changes(self._first) if state else []
        if state and self._refuse and (worse := state.worse_than(self._first)):
            self._worse = "; ".join(map(str, worse))
        if changes and not self._changed:
            self._changed = "; ".join(changes)
            self._findings.change(backend, self._changed)
        if self._changed:
            self._mark()
        self._since.clear()

    @property
    def worse(self) -> str:
        """Return what makes measuring pointless and came after the first look, unless told to go on; else nothing."""
        return self._worse

    def _mark(self) -> None:
        for comparison in self._since:
            self._findings.mark(comparison, self._changed)
            if self._worse:
                self._findings.spoil(comparison.backend, self._worse)

    def _look(self, backend: str, worker: Looker, when: str) -> State | None:
        """Look once; a reader that fails, or a worker that is gone, is in the journal and ends nothing."""
        begin = self._clock()
        try:
            state = worker.state()
        except (WorkerDied, WorkerError) as error:
            self._write("state", {"backend": backend, "when": when, "unknown": str(error)})
            return None
        finally:
            self._due = self._clock() + EVERY
        took = round(self._clock() - begin, 6)
        self._write("state", {"backend": backend, "when": when, "seconds": took} | state.as_dict())
        return state
