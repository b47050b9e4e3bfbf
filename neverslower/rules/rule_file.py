"""Read and write `hazards.toml`: a table `[[rule]]` for each rule, with its mistakes named by file, line and column."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from neverslower.device.fingerprint import slug
from neverslower.errors import RuleError, UnknownName
from neverslower.files import writing
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.problem.predicate import PredicateError, require_sound, require_yes_or_no
from neverslower.rules.rule import Owner, Rule, further_fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "rule"
LONGEST_OPENING = 4
"""Characters at most before a text: three quotes and the end of a line."""
NAME = "hazards.toml"
_WHOLE = ConvProblem(in_channels=64, height=28, width=28, out_channels=128, kernel=(3, 3), padding=(1, 1, 1, 1))
_PROBE = Comparison("", Layer("", 0, "", _WHOLE), _WHOLE.prune(1))
"""A comparison on which each predicate is tried, so that a mistake of types shows before anything is measured."""


def load(path: Path, require_backend: Callable[[str], object]) -> tuple[Rule, ...]:
    """Read the rules of a file, in its order; `require_backend` raises UnknownName for a backend that is none.

    Raises RuleError with the place and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise RuleError(f"{path} can't be read: {why}; name a file of rules, such as baselines/{NAME}") from None
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RuleError(f"{path}: {error}; fix the TOML there") from None
    for name, value in content.items():
        if name != TABLE or not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise RuleError(f"{path}:{_line_of_key(text, name)}:1: {name!r} is no rule; begin each with [[{TABLE}]]")
    entries = content.get(TABLE, [])
    return tuple(_Reader(path, text, number, entry, require_backend).rule() for number, entry in enumerate(entries))


class _Mistake(Exception):
    """What is wrong in a value; `position` counts characters of the value from 0, None where it is the value."""

    def __init__(self, why: str, position: int | None = None) -> None:
        super().__init__(why)
        self.position = position


class _Reader:
    """Reads one entry of a file and knows where each of its values is."""

    def __init__(
        self, path: Path, text: str, number: int, entry: Mapping[str, Any], require_backend: Callable[[str], object]
    ) -> None:
        self._path, self._text, self._number, self._entry = path, text, number, entry
        self._require_backend = require_backend

    def rule(self) -> Rule:
        """Return the rule. Raises RuleError."""
        for name in self._entry:
            if name not in _FIELDS:
                self._fail(name, _Mistake(f"a rule has no {name!r} (it has {', '.join(_FIELDS)})"))
        values = {}
        for name, (read, required) in _FIELDS.items():
            if name not in self._entry:
                if required:
                    self._fail("", _Mistake(f"this rule has no {name!r}; add it"))
                continue
            try:
                values[name] = read(self._entry[name])
                if name == "backend":
                    self._require_backend(values[name])
            except UnknownName as error:
                self._fail(name, _Mistake(str(error)))
            except _Mistake as mistake:
                self._fail(name, mistake)
        return Rule(**values, path=self._path, line=line_of(self._text, self._number))

    def _fail(self, name: str, mistake: _Mistake) -> None:
        line = line_of(self._text, self._number, name)
        line, column = self._place(line, name, mistake.position) if name else (line, 1)
        raise RuleError(f"{self._path}:{line}:{column}: {mistake}") from None

    def _place(self, line: int, name: str, position: int | None) -> tuple[int, int]:
        """Return line and column, from 1, of a value, or of a character in it where the file holds it as it is."""
        begin = sum(len(before) + 1 for before in self._text.split("\n")[: line - 1])
        behind = self._text.find("=", self._text.find(name, begin) + len(name)) + 1
        place = behind + len(self._text[behind:]) - len(self._text[behind:].lstrip())
        value = str(self._entry[name])
        # Whitespace and up to three quotes stand before a text that is written as it is.
        if position is not None and 0 <= (found := self._text.find(value, place)) - place <= LONGEST_OPENING:
            place = found + position
        before = self._text[:place]
        return before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Mistake(f"{value!r} is no text; write it in quotes")
    return value


def _device(value: Any) -> str:
    text = _word(value)
    if any(mark != mark.lower() or mark.isspace() for mark in text):
        raise _Mistake(f"{value!r} matches no device; write its name as folders of baselines have it: {slug(text)!r}")
    return text


def _told(value: Any) -> str:
    if value == "":
        raise _Mistake("empty; say who owns it and why, or remove the rule")
    return _word(value)


def _predicate(value: Any) -> str:
    text = _word(value)
    try:
        require_sound(text, _PROBE.candidate, further_fields(_PROBE))
        require_yes_or_no(text, _PROBE.candidate, further_fields(_PROBE))
    except PredicateError as error:
        raise _Mistake(str(error), error.position) from None
    return text


def _ratios(value: Any) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2 and all(type(ratio) in (int, float) for ratio in value):
        low, high = map(float, value)
        if 0 < low <= high < math.inf and high <= 1:
            raise _Mistake(
                f"{value!r} has no ratio above 1, and a hazard takes longer than unpruned; raise the upper one"
            )
        if 0 < low <= high < math.inf:
            return low, high
    raise _Mistake(f"{value!r} is no interval of ratios; write such as [1.03, 2.1], the lower one first")


def _owner(value: Any) -> Owner:
    try:
        return Owner(_told(value))
    except ValueError:
        raise _Mistake(f"{value!r} is no owner; name one of {', '.join(Owner)}") from None


def _versions(value: Any) -> SpecifierSet:
    try:
        return SpecifierSet(_word(value))
    except InvalidSpecifier:
        raise _Mistake(f"{value!r} is no range of versions; write such as '>=9.19,<9.28'") from None


def _day(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise _Mistake(f"{value!r} is no date; write such as 2027-03-31, without quotes")


_FIELDS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "backend": (_word, True),
    "device": (_device, False),
    "versions": (_versions, False),
    "when": (_predicate, True),
    "ratios": (_ratios, True),
    "owner": (_owner, True),
    "reason": (_told, True),
    "link": (_word, False),
    "expires": (_day, False),
}
"""How each field is read, and whether a rule must have it."""


# Where a value is: tomllib says what a file holds and not where, so the file is read again, a line more each time.


def line_of(text: str, number: int, name: str = "") -> int:
    """Return the line, from 1, on which the rule of this number begins, or its field of this name."""

    def there(content: Mapping[str, Any]) -> bool:
        rules = content.get(TABLE, [])
        return len(rules) > number and (not name or name in rules[number])

    return _first_line(text, there)


def _line_of_key(text: str, name: str) -> int:
    return _first_line(text, lambda content: name in content)


def _first_line(text: str, there: Callable[[Mapping[str, Any]], bool]) -> int:
    """Return the first line of what is `there` once enough lines are read; a value may take several lines."""
    lines = [f"{line}\n" for line in text.split("\n")]
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            content = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # In the middle of a value.
            continue
        if there(content):
            return begin
        begin = end + 1
    return begin


# Writing


def table_text(values: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """Return one rule as TOML, with comments above it; what a person has yet to say is left empty, and so refused."""
    lines = [*(f"# {comment}" for comment in comments), f"[[{TABLE}]]"]
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "".join(f"{line}\n" for line in lines)


def save(path: Path, text: str) -> None:
    """Write a file of rules, whole or not at all. Raises RuleError."""
    try:
        writing.write_whole(path, text)
    except OSError as error:
        raise RuleError(f"{path} can't be written: {error.strerror}; name another file") from error
