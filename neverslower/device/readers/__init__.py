"""Readers of what a device is and of its state, one module per source; they never change anything.

A reader's `settings` are what a comparison depends on, its `look` is a State.
"""
