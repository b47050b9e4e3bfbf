"""How finely a device can tell: layers against themselves, the figures that follow, and the doctor who looks at both.

Nothing here judges a pruned layer.
"""
