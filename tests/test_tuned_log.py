"""A compiler's tuned log does not know the pruned layer; opt in with `-m tuned_log`, which searches for minutes."""

import pytest

from neverslower.outcome.tuned_log import Case
from neverslower.pytest_items import Suite


@pytest.mark.tuned_log
def test_tuned_log(tuned_log: Case, suite: Suite, request: pytest.FixtureRequest) -> None:
    """With the unpruned layer's log, with a log of its own, or padded: the pruned layer is no slower than unpruned."""
    suite.expect_tuned_log(tuned_log, request)
