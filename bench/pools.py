"""Recorded pools of A/A comparisons, as bench.record_noise writes them."""

from __future__ import annotations

from typing import Any

from neverslower.evidence.observation import Seconds


def seconds_of(pool: Any) -> Seconds:
    """Return seconds a call of an opened pool's rounds, of shape (comparisons, blocks, 2, 2): see PairedPass."""
    seconds: Seconds = pool["nanoseconds"] * 1e-9 / pool["iterations"][:, None, :, None]
    return seconds
