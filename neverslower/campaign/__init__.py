"""One run of measuring: prepare, measure, judge, confirm, explain, and a journal from which it can go on.

Nothing here knows baselines, outcomes of tests, or pytest.
"""
