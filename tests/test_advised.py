"""The channel counts in a file of advice are worth pruning to: `--advised ADVICE.json`, as `advise` wrote it."""

import pytest

from neverslower.problem.comparison import Comparison
from neverslower.pytest_items import Suite


def test_advised(advised: Comparison, suite: Suite, request: pytest.FixtureRequest) -> None:
    """A layer is faster at an advised count than at the next larger one; at advised widths, than unpruned."""
    suite.expect_advised(advised, request)
