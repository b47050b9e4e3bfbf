"""Measure the suite itself: what its judge finds, and what its machinery costs. Not run by default."""
