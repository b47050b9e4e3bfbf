"""How small a slowdown a device can show: layers measured against themselves, the figures that follow, the doctor.

Nothing here judges a pruned layer.
"""
