"""How a run is reported: one module for each form.

Nothing here decides anything: it words what other rooms found.
"""
