"""A rule: a class of hazards that somebody knows, why, who owns it, and until when that is so."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from neverslower.device.fingerprint import Fingerprint, slug
from neverslower.enums import StrEnum
from neverslower.errors import RuleError
from neverslower.problem.comparison import Comparison
from neverslower.problem.predicate import PredicateError, holds

FURTHER: dict[str, Callable[[Comparison], Any]] = {
    "distance": lambda comparison: comparison.distance,
    "kept_percent": lambda comparison: (
        100 * comparison.candidate.channels(comparison.side) // comparison.reference.channels(comparison.side)
    ),
    "side": lambda comparison: str(comparison.side),
}
"""What a rule's predicate can ask beyond the pruned problem: channels removed, per cent kept, and the pruned side."""
EVERY = "*"
EVERY_VERSION = SpecifierSet()


class Owner(StrEnum):
    """Who would have to fix a hazard: the library's kernels, its choice of them, this suite, or nobody."""

    LIBRARY = "library"
    HEURISTIC = "heuristic"
    OURS = "ours"
    WONTFIX = "wontfix"


@dataclass(frozen=True)
class Rule:
    """One rule about the pruned problems for which `when` holds.

    `device` is a pattern of a device's name as folders of baselines have it, `versions` are those of the library.
    `ratios` are the lowest and the highest ratio of pruned to unpruned that the rule covers. `expires` is the last day
    on which the rule counts. `line` is where it begins in the file at `path`, counted from 1.
    """

    backend: str
    when: str
    ratios: tuple[float, float]
    owner: Owner
    reason: str
    device: str = EVERY
    versions: SpecifierSet = EVERY_VERSION
    link: str = ""
    expires: date | None = None
    path: Path = Path()
    line: int = 0

    @property
    def place(self) -> str:
        """Return such as `hazards.toml:12`."""
        return f"{self.path.name}:{self.line}"

    def __str__(self) -> str:
        link = f", {self.link}" if self.link else ""
        return f"{self.owner}: {self.reason} ({self.place}{link})"

    def is_about(self, fingerprint: Fingerprint) -> bool:
        """Return whether the rule is about this library, version and device."""
        if self.backend != fingerprint.backend or not fnmatch.fnmatchcase(slug(fingerprint.device), self.device):
            return False
        try:
            version = Version(fingerprint.version)
        except InvalidVersion:
            return not self.versions
        return self.versions.contains(version.public, prereleases=True)

    def matches(self, comparison: Comparison) -> bool:
        """Return whether the predicate holds. Raises RuleError where it can't be computed for this problem."""
        if comparison.backend != self.backend or not comparison.asks_whether_slower:
            return False
        try:
            return holds(self.when, comparison.candidate, further_fields(comparison))
        except PredicateError as error:
            raise RuleError(f"{self.place}: {error}, for {comparison.candidate}; fix the rule") from None

    def expired(self, today: date) -> bool:
        """Return whether the rule's last day is over."""
        return self.expires is not None and today > self.expires


def further_fields(comparison: Comparison) -> dict[str, Any]:
    """Return the fields that a predicate can ask of a comparison and a problem alone has not."""
    return {name: value(comparison) for name, value in FURTHER.items()}


@dataclass(frozen=True)
class Rules:
    """The rules of one file in its order, on one day; the first that matches a comparison covers it."""

    rules: Sequence[Rule] = ()
    today: date = date.max

    def require_computable(self, comparisons: Iterable[Comparison]) -> None:
        """Make sure, before anything is measured, that each rule can be asked of each comparison. Raises RuleError."""
        for comparison in comparisons:
            for rule in self.rules:
                rule.matches(comparison)

    def about(self, fingerprint: Fingerprint) -> Rules:
        """Return the rules that count for this library, version, device and day."""
        count = [rule for rule in self.rules if rule.is_about(fingerprint) and not rule.expired(self.today)]
        return Rules(count, self.today)

    def covering(self, comparison: Comparison) -> Rule | None:
        """Return the first rule that matches a comparison, or None."""
        return next((rule for rule in self.rules if rule.matches(comparison)), None)

    @cached_property
    def backends(self) -> Mapping[str, list[Rule]]:
        """Return the rules of each backend."""
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            found.setdefault(rule.backend, []).append(rule)
        return found


NO_RULES = Rules()
