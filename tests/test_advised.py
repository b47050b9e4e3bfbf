"""The channel counts in a file of advice are worth pruning to: `--advised ADVICE.json`, as `advise` wrote it."""

import pytest

from neverslower.problem.comparison import Comparison
from neverslower.pytest_items import Suite


def test_advised(advised: Comparison, suite: Suite, request: pytest.FixtureRequest) -> None:
    """A layer at an advised channel count is faster than at the next larger one."""
    suite.expect_advised(advised, request)
