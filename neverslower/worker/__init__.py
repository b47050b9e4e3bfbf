"""Touches the device: a process for each backend, its far side, the sampler that runs there, pools, and one holder.

Nothing here judges, and only this room starts a worker process.
"""
