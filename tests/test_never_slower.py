"""A pruned layer is never slower than the unpruned one."""

import pytest

from neverslower.problem.comparison import Comparison
from neverslower.pytest_items import Suite


def test_never_slower(pruned: Comparison, suite: Suite, request: pytest.FixtureRequest) -> None:
    """A layer with fewer channels takes no longer than the layer that it was pruned from."""
    suite.expect_never_slower(pruned, request)
