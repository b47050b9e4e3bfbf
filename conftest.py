"""Wiring only: names the plugin and registers Hypothesis's profiles; pytester is for the selftests."""

from neverslower.hunt import profiles

pytest_plugins = ["neverslower.pytest_plugin", "pytester"]
profiles.register()
