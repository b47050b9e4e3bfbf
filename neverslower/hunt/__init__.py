"""Layers that nobody listed: drawn with Hypothesis, measured on demand, shown in their smallest form, and kept.

Only this room imports Hypothesis.
"""
