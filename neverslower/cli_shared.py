"""What several commands share: refusals of a user's mistakes, steps on stderr."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import backends
from neverslower.errors import NeverSlowerError

SHOWN_EVERY = 1.0
"""Seconds between two steps of one phase that are shown."""


def what_is_missing(name: str) -> str:
    """Return why a backend can't even be started here, or an empty string."""
    missing = backends.missing_modules(name)
    return f"unavailable: {', '.join(missing)} is not installed; `{backends.remedy(name)}`" if missing else ""


def require_installed(name: str) -> None:
    """Refuse a backend that can't even be started here. Raises NeverSlowerError with the remedy."""
    if why := what_is_missing(name):
        raise NeverSlowerError(f"{name} is {why}")


def runs_networks(name: str) -> bool:
    """Return whether a backend runs whole networks from end to end."""
    return bool(backends.load(name).CAPABILITIES.networks)


def require_suffix(path: Path, suffix: str, what: str) -> None:
    """Refuse a name that does not end in `suffix`: a slip of the finger could replace a baseline."""
    if not path.name.endswith(suffix):
        raise NeverSlowerError(f"{path} can't be {what}: name a file that ends in {suffix}")


def refuse_out_of_place(
    parser: argparse.ArgumentParser, options: argparse.Namespace, flags: Iterable[str], why: str
) -> None:
    """Refuse options of a command's other mode, which this one would ignore. Raises NeverSlowerError."""
    for flag in flags:
        name = flag.removeprefix("--").replace("-", "_")
        if getattr(options, name) != parser.get_default(name):
            raise NeverSlowerError(f"{flag} has no place here: {why}")


def step_on_stderr(step: str) -> None:
    """Show a step of long work."""
    print(step, file=sys.stderr, flush=True)


class StepsOnStderr:
    """Shows the first and the last step of each phase, and others now and then."""

    def __init__(self) -> None:
        self._phase, self._shown = "", 0.0

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show the step, with the time that is left where it is known."""
        now = time.monotonic()
        if phase == self._phase and done < total and now - self._shown < SHOWN_EVERY:
            return
        self._phase, self._shown = phase, now
        left = "" if seconds_left is None else f", {seconds_left:,.0f} s left"
        step_on_stderr(f"{phase} {done:,}/{total:,}{left}")


def newest_journal(folder: Path, but: str = "") -> Path:
    """Return the journal that was written last, of a bisection too, `but` not one whose name matches.

    Raises NeverSlowerError where there is none.
    """
    found = [*folder.glob("*.jsonl"), *folder.glob("bisect-*/[0-9]*.jsonl")]
    chosen = (path for path in found if not (but and path.match(but)))
    journals = sorted(chosen, key=lambda path: path.stat().st_mtime)
    if not journals:
        raise NeverSlowerError("no run has left a journal here; name one: --journal FILE")
    return journals[-1]
