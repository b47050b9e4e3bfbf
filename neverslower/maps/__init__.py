"""Every channel count of a layer, measured as one curve and read as a staircase; grids over both sides, for planning.

Also the counts, and the pairs of counts, that curves and grids advise. Nothing here gives a verdict.
"""
