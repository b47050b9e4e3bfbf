"""Every channel count of a layer, measured as one curve and read as a staircase; grids over both sides, for planning.

Nothing here gives a verdict.
"""
