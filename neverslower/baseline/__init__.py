"""What is stored of a run: entries, the two formats, the folder of a device, and what accepting a run changes.

Nothing here measures.
"""
