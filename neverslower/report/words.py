"""Write quantities for people, and read the durations that they write."""

from __future__ import annotations

import math
import re

import numpy as np

from neverslower.evidence.observation import Seconds
from neverslower.judge.stats import median_interval


def seconds(value: float) -> str:
    """Return a time in seconds with a unit that suits it: `1.53 ms`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def time_with_interval(samples: Seconds) -> str:
    """Return the median of samples in seconds, with its 95 % interval."""
    bounds = median_interval(samples)
    return f"{seconds(float(np.median(samples)))} [{seconds(bounds.low)}, {seconds(bounds.high)}]"


def percent(value: float | None) -> str:
    """Return a fraction as per cent, or a dash for None."""
    return "–" if value is None else f"{100 * value:.1f} %"


def signed_percent(value: float) -> str:
    """Return a fraction as per cent, with its sign."""
    return f"{100 * value:+.1f} %"


def duration(value: float) -> str:
    """Return a longer time, given in seconds: `2 min 05 s`."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def parse_duration(text: str) -> float:
    """Return the seconds in `90`, `90s`, `5m`, `1h` or `1h30m`. Raises ValueError for anything else, and for 0."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip().lower())
    total = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not 0 < total < math.inf:
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m or 1h30m")
    return total
