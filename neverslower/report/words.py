"""Write quantities for people, and read the durations that they write."""

from __future__ import annotations

import codecs
import io
import math
import re
import sys
import textwrap

import numpy as np

from neverslower.campaign.forecast import Forecast
from neverslower.counted import counted
from neverslower.evidence.observation import Seconds
from neverslower.judge.stats import median_interval
from neverslower.problem.convolution import ConvProblem, Side

PLAIN_LETTERS = "never-slower-plain-letters"
"""The name under which Python's codecs know how to write signs that an encoding does not have."""


def seconds(value: float) -> str:
    """Return a time in seconds with a unit that suits it: `1.53 ms`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def signed_seconds(value: float) -> str:
    """Return a difference of times with its sign: `+0.31 ms`, in plain letters."""
    return f"{'-' if value < 0 else '+'}{seconds(abs(value))}"


def time_with_interval(samples: Seconds) -> str:
    """Return the median of samples in seconds, with its 95 % interval."""
    bounds = median_interval(samples)
    return f"{seconds(float(np.median(samples)))} [{seconds(bounds.low)}, {seconds(bounds.high)}]"


def channels(problem: ConvProblem, side: Side) -> str:
    """Return the channel counts that a pruning on a side reduces: `57 channels`, `57 output and 226 input channels`."""
    if side is Side.TOGETHER:
        return f"{problem.out_channels} output and {problem.in_channels} input channels"
    return f"{problem.channels(side)} channels"


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


_BUDGETS = (10, 20, 30, *(60 * minutes for minutes in (1, 2, 3, 5, 10, 15, 20, 30, 45)))
"""Time budgets that people give, in seconds; beyond them are whole hours."""


def time_budget(value: float) -> str:
    """Return the time budget to give for so many seconds, a round one that is no shorter: `30s`, `5m`, `2h`."""
    enough = next((budget for budget in _BUDGETS if value <= budget), 0)
    if not enough:
        return f"{math.ceil(value / 3600)}h"
    return f"{enough}s" if enough < 60 else f"{enough // 60}m"


def too_noisy(backend: str, forecast: Forecast) -> str:
    """Return what is to be expected, said while it measures, of a machine that looks too noisy for its budget."""
    return (
        f"{backend}: forecast: this machine looks too noisy for the time budget: {_after(forecast)} "
        f"{forecast.undecided} of {counted(forecast.begun, 'comparison')} undecided; {_provable(forecast)}, and the "
        f"rest would take {duration(forecast.seconds_for_all)} of measuring"
    )


def was_too_noisy(backend: str, forecast: Forecast, undecided: int) -> str:
    """Return how a forecast of too much noise came true: so many comparisons stayed undecided."""
    return (
        f"{backend}: too noisy for the time budget, as was forecast {_after(forecast)}: {undecided} of "
        f"{counted(forecast.begun, 'comparison')} stayed undecided; {_provable(forecast)}, and the rest would have "
        f"taken {duration(forecast.seconds_for_all)} of measuring"
    )


def _after(forecast: Forecast) -> str:
    return f"after {counted(forecast.passes, 'pass', 'passes')}"


def _provable(forecast: Forecast) -> str:
    return f"the smallest slowdown that it can prove is {forecast.mde:.1%}" if forecast.mde else "it can prove nothing"


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


_PLAIN = {"→": "->", "×": "x", "–": "-", "…": "...", "≤": "<=", "≥": ">=", "µ": "u", "±": "+-", "“": '"', "”": '"'}
"""What stands for a sign that an encoding does not have."""


def in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for signs that can't be encoded, and where to go on: a handler for `codecs.register_error`.

    Raises the error where it is another one than of encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error(PLAIN_LETTERS, in_plain_letters)


def in_letters_of(text: str, encoding: str | None) -> str:
    """Return a text in signs that an encoding has; without an encoding, or with an unknown one, as it is."""
    try:
        return text.encode(encoding or "utf-8", PLAIN_LETTERS).decode(encoding or "utf-8")
    except LookupError:
        return text


def write_in_any_encoding() -> None:
    """Let signs that stdout and stderr have no letter for become others; by default they would end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN_LETTERS)


def broken(text: str, width: int) -> list[str]:
    """Return the lines of a text for a terminal so wide, broken at spaces and indented as the text is."""
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    ) or [text]
