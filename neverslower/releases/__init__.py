"""Gets the other library that a user names as packages: wheels, Debian packages, a folder; makes and keeps its place.

Nothing here measures or builds a library from its sources, and only this room asks an index or downloads.
"""
