"""How it is told: one module for each form.

Nothing here decides anything: it words what other rooms found.
"""
