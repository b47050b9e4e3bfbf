"""A pruned network is never slower than its original, from end to end: --model ORIGINAL --pruned PRUNED."""

import pytest

from neverslower.problem.whole import WholeComparison
from neverslower.pytest_items import Suite


def test_whole_network(whole_network: WholeComparison, suite: Suite, request: pytest.FixtureRequest) -> None:
    """With fewer channels in its layers, the whole network takes no longer."""
    suite.expect_whole_never_slower(whole_network, request)
