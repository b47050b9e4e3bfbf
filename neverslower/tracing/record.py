"""A trace on disk: what it was asked, and a line a step, so that one that was interrupted goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.files.journal import replay
from neverslower.judge.verdict import Interval
from neverslower.tracing.culprits import Seen, State, Step

NAME = "trace.jsonl"
"""The file in the folder of a trace; next to it lie the journals of its steps."""


@dataclass
class Recorded:
    """What the file of a trace holds: what was asked, and each step that ended with what it showed."""

    asked: dict[str, Any] = field(default_factory=dict)
    steps: list[tuple[Step, dict[str, Seen]]] = field(default_factory=list)

    def require_asked(self, folder: Path, now: Mapping[str, Any]) -> None:
        """Raise NeverSlowerError where the trace was asked something else than now."""
        for name, value in now.items():
            if self.asked.get(name) != value:
                then = self.asked.get(name)
                text = f"--resume {folder}: another trace: {name} was {_short(then)}, and now it is {_short(value)}"
                raise NeverSlowerError(f"{text}; give the same options, or leave --resume out")


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


LONGEST = 120
"""Characters of a setting that a refusal shows."""


def step_name(number: int, step: Step) -> str:
    """Return the name of the journal of a step, by its number from 1: two steps may measure the same releases."""
    return f"{number:03}-{step.old}-{step.new}-{step.effort}.jsonl"


def fields_of(step: Step, seen: Mapping[str, Seen]) -> dict[str, Any]:
    """Return a step that ended as plain data."""
    return {**asdict(step), "cases": list(step.cases), "seen": {case: asdict(one) for case, one in seen.items()}}


def load(folder: Path) -> Recorded:
    """Read the trace of a folder. Raises NeverSlowerError for any other folder."""
    recorded = Recorded()
    replay(folder / NAME, lambda line: _add(recorded, line))
    if not recorded.asked:
        raise NeverSlowerError(f"--resume {folder}: it holds no trace; name the folder of one")
    return recorded


def _add(recorded: Recorded, line: Mapping[str, Any]) -> None:
    if line["event"] == "trace":
        recorded.asked = {name: value for name, value in line.items() if name not in ("event", "time")}
    elif line["event"] == "step":
        step = Step(line["old"], line["new"], line["effort"], tuple(line["cases"]))
        recorded.steps.append((step, {case: _seen(one) for case, one in line["seen"].items()}))


def _seen(data: Mapping[str, Any]) -> Seen:
    ratio = data["ratio"]
    return Seen(**{**data, "state": State(data["state"]), "ratio": Interval(**ratio) if ratio else None})
