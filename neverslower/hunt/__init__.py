"""Layers that nobody listed: drawn with Hypothesis, measured on demand, made as small as possible, and kept.

Only this room imports Hypothesis.
"""
