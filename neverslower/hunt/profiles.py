"""Register Hypothesis's profiles: how many layers a hunt draws, and whether it draws the same ones each time."""

from __future__ import annotations

import hypothesis


def register() -> None:
    """Make `default`, `ci` and `thorough` known to Hypothesis, and load the first."""
    hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
    hypothesis.settings.register_profile("thorough", max_examples=10_000, deadline=None)
    hypothesis.settings.register_profile("default", deadline=None)
    hypothesis.settings.load_profile("default")
