"""What machine this is, and whether it is fit to measure on: the fingerprint, the state, and the readers of both.

Nothing here changes a setting of the device.
"""
