"""Every channel count of a layer: measured as one curve, and read as a staircase.

Nothing here gives a verdict.
"""
