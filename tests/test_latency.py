"""The time of each layer at each channel count: recorded, and no slower than the baseline."""

from typing import Any

import pytest

from neverslower.problem.comparison import Comparison
from neverslower.pytest_items import Suite
from neverslower.stock import CLOCK


@pytest.mark.benchmark(timer=CLOCK)
def test_latency(channel_count: Comparison, suite: Suite, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """The device's samples go to pytest-benchmark; with --benchmark-compare they are compared with the baseline."""
    suite.record(channel_count, benchmark)
    suite.expect_no_regression(channel_count, request)
