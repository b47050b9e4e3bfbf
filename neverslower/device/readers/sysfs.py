"""Read the small text files of sysfs, procfs and device trees, and describe a clock in words.

A reader meets files that are missing, forbidden or of another kind on every second board, so nothing here raises.
"""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """Return a file's text as it is; empty where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def clock_range(low_hz: int, high_hz: int) -> str:
    """Describe a fixed clock, or the range in which a governor moves it; "" where either bound is unknown (0)."""
    if not low_hz or not high_hz:
        return ""
    low, high = low_hz // 1_000_000, high_hz // 1_000_000
    return f"{high} MHz, fixed" if low_hz == high_hz else f"{low} to {high} MHz"


def number(path: Path) -> int:
    """Return the number in a file, or 0 where there is none, such as in a list or in `<unknown>`."""
    digits = text(path)
    return int(digits) if digits.isdecimal() else 0


def text(path: Path) -> str:
    """Return a file's text without the NUL that ends strings of a device tree; empty where it can't be read."""
    return read_text(path).replace("\0", " ").strip()
