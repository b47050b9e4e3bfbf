"""Read the words of the command line. Each function raises NeverSlowerError: the option, the word, the right form."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from neverslower.errors import InvalidProblem, NeverSlowerError
from neverslower.problem import epilogue
from neverslower.problem.epilogue import Epilogue, PostOp
from neverslower.problem.selection import Keep
from neverslower.releases.spec import is_release, parse
from neverslower.report import words

DAY = 86400.0
MOST_ERROR = 0.1
"""The largest chance of a false red that may be asked for; a run that is wrongly red more often is no test."""
MOST = 1000
"""The most passes, blocks, threads or channel counts that may be asked for; a larger number is a typing error."""
Member = TypeVar("Member", bound=Enum)
_PLACES = ("popen", "ssh=", "vagrant_ssh=", "socket=", "via=")
"""How an execnet spec names a place."""


def one_of(flag: str, text: str, allowed: Sequence[str]) -> str:
    """Return a word that must be one of a few."""
    if text not in allowed:
        raise NeverSlowerError(f"{flag} {text!r}: unknown (known: {', '.join(allowed)})")
    return text


def member(kind: type[Member], text: str, flag: str) -> Member:
    """Return the member of an enumeration that a word names, in any case."""
    for candidate in kind:
        if str(candidate).lower() == text.lower():
            return candidate
    raise NeverSlowerError(f"{flag} {text!r}: unknown (known: {', '.join(str(known) for known in kind)})")


def whole(flag: str, text: str, least: int = 1, most: int = MOST) -> int:
    """Return a whole number from `least` to `most`."""
    try:
        number = int(text)
    except ValueError:
        raise NeverSlowerError(f"{flag} {text!r}: a whole number from {least} to {most}") from None
    if not least <= number <= most:
        raise NeverSlowerError(f"{flag} {number}: from {least} to {most}")
    return number


def chance(flag: str, text: str) -> float:
    """Return a probability above 0 and up to MOST_ERROR, from `0.01` or `1%`."""
    number = _number(text)
    if number is None or not 0 < number <= MOST_ERROR:
        raise NeverSlowerError(f"{flag} {text!r}: a probability such as 0.01, above 0 and at most {MOST_ERROR:g}")
    return number


def share(flag: str, text: str) -> float:
    """Return the share that per cent name, `95%` or `95`."""
    number = _number(f"{text.strip().removesuffix('%')}%")
    if number is None or not 0 <= number <= 1:
        raise NeverSlowerError(f"{flag} {text!r}: a share such as 95%, from 0% to 100%")
    return number


def _number(text: str) -> float | None:
    """Return what `0.05` or `5%` is, None where it is no number."""
    plain = text.strip()
    try:
        return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
    except ValueError:
        return None


def duration(flag: str, text: str) -> float:
    """Return the seconds that an option names."""
    try:
        return words.parse_duration(text)
    except ValueError as error:
        raise NeverSlowerError(f"{flag}: {error}") from None


def limit(flag: str, text: str) -> float:
    """Return the seconds of a limit that nothing may be without: up to a day."""
    seconds = duration(flag, text)
    if seconds > DAY:
        raise NeverSlowerError(f"{flag} {text}: a day (24h) at most")
    return seconds


def budget(flag: str, text: str | None, default: float | None) -> float | None:
    """Return the seconds of a budget, `default` where none was given, None for `0`, which is no limit."""
    if text is None:
        return default
    if text.strip() == "0":
        return None
    if re.fullmatch(r"[0.hms\s]*0[0.hms\s]*", text.lower()):
        # Who writes 0s may mean no time at all as well as no limit; the two could not differ more.
        raise NeverSlowerError(f"{flag} {text!r}: write 0 for no limit, or a duration such as 1s, 90s, 5m or 1h30m")
    return duration(flag, text)


def keep(text: str) -> Keep:
    """Return the counts that `96`, `92-97` or `48,56` names, or `layer1.0.conv1=48,56` for the layers that match."""
    pattern, equals, listed = text.rpartition("=")
    parts = listed.split(",")
    if not all(part.strip() for part in parts) or (equals and not pattern):
        forms = "channel counts such as 48, 48,56 or 92-97, or layer1.0.conv1=48,56 for the layers that match"
        raise NeverSlowerError(f"--keep {text!r}: {forms}")
    return Keep(tuple(count for part in parts for count in counts(part)), pattern)


def post_ops(text: str) -> tuple[PostOp, ...]:
    """Return the post-ops that `sum+relu` or `silu` names."""
    try:
        return Epilogue(post_ops=epilogue.post_ops(text)).post_ops
    except InvalidProblem as error:
        raise NeverSlowerError(f"--post-ops {text!r}: {error}") from None


def counts(text: str) -> tuple[int, ...]:
    """Return the channel counts that `96` or `92-97` names."""
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
    if not match:
        raise NeverSlowerError(f"--keep {text!r}: a channel count such as 96, or a range such as 92-97")
    first = int(match[1])
    last = int(match[2] or first)
    if first > last:
        raise NeverSlowerError(f"--keep {text}: the smaller count comes first, so write --keep {last}-{first}")
    if last - first >= MOST:
        raise NeverSlowerError(f"--keep {text}: {last - first + 1} channel counts; {MOST} at most")
    return tuple(range(first, last + 1))


def library(flag: str, text: str) -> str:
    """Return a release that is to be installed (pip:, deb:, root:) as it was written, or else an execnet spec."""
    if is_release(text.strip()):
        return str(parse(flag, text.strip()))
    return spec(flag, text)


def spec(flag: str, text: str) -> str:
    """Return an execnet spec that says where a worker runs; the path of a Python means a process that it runs here."""
    path = Path(text).expanduser()
    if not text.strip():
        raise NeverSlowerError(f"{flag} needs an execnet spec, such as popen//python=../old/bin/python")
    if any(part.startswith(_PLACES) for part in text.split("//")):
        return text
    if path.is_file():
        return f"popen//python={shlex.quote(str(path))}"  # execnet splits it as a shell does.
    if path.is_dir():
        raise NeverSlowerError(f"{flag} {text}: a directory; name the Python in it, such as {path / 'bin' / 'python'}")
    if os.sep in text:
        raise NeverSlowerError(f"{flag} {text}: no such file; name a Python on this machine, or write an execnet spec")
    if text.startswith("python"):
        raise NeverSlowerError(f"{flag} {text}: not an execnet spec; for that Python write {flag} popen//python={text}")
    raise NeverSlowerError(
        f"{flag} {text}: not an execnet spec; write ../old/bin/python for a Python on this machine, "
        "or ssh=HOST//python=python3 for another machine"
    )
