"""Wiring only: names the plugin and registers Hypothesis's profiles; pytester is for the selftests."""

import hypothesis

pytest_plugins = ["neverslower.pytest_plugin", "pytester"]

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=10_000, deadline=None)
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")
