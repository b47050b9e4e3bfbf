"""What came of padding one model, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neverslower.campaign.findings import WholeResult
from neverslower.mending.choice import Table
from neverslower.mending.widths import Widths
from neverslower.problem.model import Model


@dataclass(frozen=True)
class Mended:
    """A model, what is known of its padded layers, the widths that were proved better, and what was written.

    `script` is None where nothing is padded. `difference` is the largest one of the outputs, over the largest output.
    `whole` is the padded network against the one before, None where the backend runs no whole networks or no time was
    left; `no_whole` says which.
    """

    model: Model
    backend: str
    table: Table
    widths: Widths
    script: Path | None = None
    difference: float = 0.0
    whole: WholeResult | None = None
    no_whole: str = ""

    @property
    def left(self) -> dict[str, str]:
        """Return why each group that is not padded is left as it is, by its name."""
        tried = {name: self.table.why_left(name) for name in self.table.padding.choices if name not in self.widths}
        return {**tried, **self.table.padding.left}

    @property
    def ratio_of_layers(self) -> float:
        """Return the seconds of all convolutions after padding over those before, each timed by itself."""
        before, after = (self.table.score(widths)[1] for widths in (_NONE, self.widths))
        return after / before


_NONE: Mapping[str, int] = {}
