"""Did an output get less exact? Errors against float64 of two libraries, set against each other; nothing is timed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from neverslower.evidence.observation import Examined

LESS_EXACT = 10.0
"""By this factor an output's error must grow to be a finding: summing in another order moves it by less."""
ROUNDING: Mapping[str, float] = MappingProxyType(
    {"float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
)
"""The unit roundoff of each dtype, as a fraction of a value: an error below it is as good as none."""
GREW = 2.0
"""By this factor a workspace or the time of a first call must grow to be listed."""
LEAST_WORKSPACE, LEAST_SECONDS = 2**20, 0.01
"""And by so many bytes, or seconds."""


def less_exact(before: float | None, now: float | None, dtype: str) -> bool:
    """Return whether an error is ten times what it was; errors are fractions of the output's largest value.

    An error that was below the rounding of its dtype counts as that. None is an output that was not checked.
    """
    if before is None or now is None:
        return False
    return not now < LESS_EXACT * max(before, ROUNDING[dtype])  # `not <` and not `>=`: true for NaN.


def less_exact_text(before: float, now: float) -> str:
    """Return how the error grew, for people."""
    return f"output less exact: error {before:.1e} became {now:.1e} of the largest value"


def growths(before: Examined, now: Examined) -> list[str]:
    """Return what a problem needs more than GREW times as much of as before: workspace, and time of the first call."""
    found = []
    old, new = before.plan.workspace, now.plan.workspace
    if old is not None and new is not None and new > GREW * old and new - old >= LEAST_WORKSPACE:
        found.append(f"workspace {old / 1e6:.1f} MB became {new / 1e6:.1f} MB")
    first, then = before.first_call, now.first_call
    if first is not None and then is not None and then > GREW * first and then - first >= LEAST_SECONDS:
        found.append(f"first call {first:.3f} s became {then:.3f} s")
    return found
