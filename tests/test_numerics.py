"""Pruning does not change what the kept channels compute."""

import pytest

from neverslower.problem.comparison import Comparison
from neverslower.pytest_items import Suite


def test_numerics(pruned: Comparison, suite: Suite, request: pytest.FixtureRequest) -> None:
    """The pruned layer's output equals the kept slice of the unpruned layer's output."""
    suite.expect_equal_outputs(pruned, request)
