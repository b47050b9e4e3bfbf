"""Traces each regression between two releases to the release that brought it: what to measure next, and what it shows.

Nothing here measures, judges or downloads: it plans steps and reads what they showed.
"""
