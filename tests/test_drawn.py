"""Layers that no catalogue has: Hypothesis draws them, and makes what it finds as small as it gets.

Opt-in with `-m hunt`; `--hypothesis-profile=thorough` draws more, `--hunt-budget` gives it more time.
"""

import pytest

from neverslower.pytest_items import Suite


@pytest.mark.hunt
def test_drawn_layers_are_never_slower(drawn_on: str, suite: Suite, request: pytest.FixtureRequest) -> None:
    """However a layer is shaped, with fewer channels it takes no longer."""
    suite.expect_no_drawn_hazard(drawn_on, request)


@pytest.mark.hunt
def test_drawn_outputs_are_right(drawn_on: str, suite: Suite, request: pytest.FixtureRequest) -> None:
    """However a layer is shaped, its output is that of float64, pruned or padded alike."""
    suite.expect_right_drawn_outputs(drawn_on, request)
