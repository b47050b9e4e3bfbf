"""Observations of a convolution as plain data: plans, kernels, enqueued work and raw samples.

Nothing here measures, judges or reads a file.
"""
