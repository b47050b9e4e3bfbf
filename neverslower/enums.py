"""Enumerations whose members are words: Python 3.11's StrEnum, for Python 3.10."""

from __future__ import annotations

from enum import Enum


class StrEnum(str, Enum):
    """An enumeration whose members equal their values, and print as them."""

    def __str__(self) -> str:
        return str(self.value)
