"""Counts things in words."""

from __future__ import annotations


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun: `1 pair`, `1,229 pairs`; `nouns` is a plural that takes more than an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
