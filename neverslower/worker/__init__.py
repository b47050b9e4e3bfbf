"""Who touches the device: a process for each backend, its far side, the sampler that runs there, and pools of them.

Nothing here judges, and only this room starts a worker process.
"""
