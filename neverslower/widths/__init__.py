"""The widths of a model's groups of coupled channels that keep most importance for a budget: planned, then verified.

Plans rest on the estimates of a grid, and what is advised on verdicts. Nothing here measures.
"""
