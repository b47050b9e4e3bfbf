"""Begins only what is chosen of all that was examined, and after each pass what that pass makes necessary."""

from __future__ import annotations

from collections.abc import Sequence

from neverslower.campaign.context import BackendRun, Choose
from neverslower.campaign.preparing import Wait
from neverslower.campaign.schedule import Schedule
from neverslower.problem.compared import Compared


class ChosenSchedule(Schedule):
    """Spends the time on what is chosen; what never is gets no verdict, and nobody waits for one."""

    def __init__(self, run: BackendRun, comparisons: Sequence[Compared], pick: Choose) -> None:
        assert run.begins_all, "what is chosen among is examined first, so the settings must be `whole`"
        super().__init__(run, comparisons)
        self._pick = pick
        self._examined: list[Compared] = []

    def begin(self, compiled: Wait) -> None:
        """Examine all, as far as half of the time lasts, and begin what is chosen by the plans alone."""
        super().begin(compiled)
        self._examined, self.begun = self.begun, []
        self.fill()

    def fill(self) -> None:
        """Begin what is chosen by what was measured so far."""
        begun = {comparison.identity for comparison in self.begun}
        chosen = self._pick(self._run.library, self._examined)
        self.begun += [comparison for comparison in chosen if comparison.identity not in begun]
        self._run.library.write("chosen", {"begun": len(self.begun), "of": len(self._examined)})

    def leave_out(self) -> None:
        """Say of what was never examined that the time did not last, and want nothing of what was never timed."""
        super().leave_out()
        library = self._run.library
        self.begun = [one for one in self.begun if library.taken(one) or library.findings.has(one)]
        self._run.findings.spare(self._run.name, len(self._examined) - len(self.begun))
