"""How anything gets on disk and back: journals, whole files, folders that are kept, fields of JSON.

Nothing here knows what a verdict is.
"""
