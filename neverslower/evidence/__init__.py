"""What was seen of a convolution, as data: observations, kernels, enqueued work.

Nothing here measures, judges or reads a file.
"""
