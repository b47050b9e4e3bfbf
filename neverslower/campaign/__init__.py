"""Runs one campaign: it prepares, measures, judges, confirms and explains, and can go on from its journal.

Nothing here knows baselines, outcomes of tests, or pytest.
"""
