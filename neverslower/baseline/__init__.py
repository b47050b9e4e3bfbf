"""Stored runs: their entries, the two file formats, the folder of a device, and what accepting a new run changes.

Nothing here measures.
"""
