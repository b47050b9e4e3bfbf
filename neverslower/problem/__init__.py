"""What is asked: convolution problems, networks, pruned layers to compare, which of them to select, right outputs.

Nothing here has a time or a device.
"""
