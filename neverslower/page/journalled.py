"""Read what a journal says line by line: samples, plans, and the verdicts as the run itself gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Examined, PairedPass
from neverslower.files.journal import replay
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.outcome import concluded
from neverslower.outcome.concluded import Concluded
from neverslower.page.account import Look

WAYS = ("preset", "blocks", "seed", "against")
"""Settings that decide what a pass is; what was measured with others before is not part of the run."""
STUDIED = "every"
"""What a line has in the journals of `bench.live`, which sets layers against themselves: nothing there is pruned."""
_SAMPLES = ("measured", "confirmed", "drawn")


@dataclass
class OneLibrary:
    """What a journal says of one library: the one under test, or that of `--against`.

    Verdicts, explanations and samples are by identity, everything else by the name of the backend. Samples
    are by the number of their pass, too: where another run wrote into the same journal, its own count. `ids` name
    what has samples. `specs` are the backends as `--backend` named them, empty in journals of older versions.
    """

    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    specs: dict[str, str] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    examined: dict[tuple[str, str], Examined] = field(default_factory=dict)
    passes: dict[Identity, dict[int, PairedPass]] = field(default_factory=dict)
    ids: dict[Identity, str] = field(default_factory=dict)
    verdicts: dict[Identity, Mapping[str, Any]] = field(default_factory=dict)
    explained: dict[Identity, Mapping[str, Any]] = field(default_factory=dict)
    concluded: dict[Identity, tuple[Concluded, ...]] = field(default_factory=dict)

    def taken(self, identity: Identity) -> list[PairedPass]:
        """Return the passes of a comparison, in the order in which they were taken."""
        return list(self.passes.get(identity, {}).values())

    def unjudged(self, backend: str) -> list[Identity]:
        """Return what has samples of a backend and no verdict, for the run ended before it was judged."""
        return [identity for identity in self.passes if identity[0] == backend and identity not in self.verdicts]

    @property
    def said(self) -> dict[Identity, Verdict]:
        """Return the verdicts that the run gave."""
        return {identity: verdict_of(line) for identity, line in self.verdicts.items()}


@dataclass
class Journalled:
    """A whole journal: both libraries, the settings, the options that bring in users' layers, and the last line.

    `run` is what the run says at its end, None of a run that did not come so far. `judged` counts the verdicts that
    its last campaign gave, for several may have one journal.
    """

    now: OneLibrary = field(default_factory=OneLibrary)
    before: OneLibrary = field(default_factory=OneLibrary)
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: dict[str, list[str]] = field(default_factory=dict)
    run: Mapping[str, Any] | None = None
    seconds: float | None = None
    judged: int = 0


def read(path: Path) -> Journalled:
    """Return what a journal says. Raises NeverSlowerError, naming the file, where it is none or says nothing."""
    journal = Journalled()
    replay(path, lambda line: _add(journal, line), named="")
    if not journal.now.fingerprints:
        raise NeverSlowerError(f"{path}: no backend has measured anything in it; name the journal of a run")
    return journal


def _add(journal: Journalled, line: Mapping[str, Any]) -> None:
    """Take one line in; lines that a page does not show are passed over."""
    kind = line["event"]
    if STUDIED in line:
        return
    library = journal.before if line.get("side") == "before" else journal.now
    if kind == "campaign":
        if journal.settings and any(journal.settings.get(name) != line.get(name) for name in WAYS):
            journal.now, journal.before = OneLibrary(), OneLibrary()
        journal.now.concluded.clear()  # A run that goes on concludes anew.
        journal.run, journal.seconds, journal.judged = None, None, 0
        journal.settings = {name: value for name, value in line.items() if name not in ("event", "time")}
    elif kind == "run":
        journal.run = line
    elif kind == "end":
        journal.seconds = line["seconds"]
    elif kind == "model":
        journal.layers |= dict.fromkeys(line["layers"], line["source"])
    elif kind == "fingerprint":
        found = Fingerprint.from_dict({name: line[name] for name in Fingerprint.__dataclass_fields__})
        library.fingerprints[found.backend] = found
        library.remarks[found.backend] = list(line.get("remarks", ()))
        library.specs[found.backend] = line.get("spec", "")
    elif kind == "state":
        library.looks.setdefault(line["backend"], []).append(_look(line))
    elif kind == "examined" and "plan" in line:
        fields = {name: line[name] for name in Examined.__dataclass_fields__ if name in line}
        library.examined[line["backend"], line["problem"]] = _examined(fields)
    else:
        journal.judged += kind == "verdict" and library is journal.now
        _add_result(library, kind, line)


def _add_result(library: OneLibrary, kind: str, line: Mapping[str, Any]) -> None:
    """Take in what is about one comparison."""
    if kind in _SAMPLES:
        sample = {"clock": "", "cache": "hot", **line}
        library.passes.setdefault(_identity(line), {})[line["pass"]] = PairedPass.from_record(sample)
        library.ids[_identity(line)] = line["id"]
    elif kind == "verdict":
        library.verdicts[_identity(line)] = line
    elif kind == "explained":
        library.explained[_identity(line)] = line
    elif kind == concluded.EVENT:
        library.concluded[_identity(line)] = concluded.of_line(line)


def _examined(fields: Mapping[str, Any]) -> Examined:
    """Return what was found of a problem; the first journals did not say how the cache was."""
    return Examined.from_dict({"cache": {"kind": "hot"}, **fields})


def verdict_of(line: Mapping[str, Any]) -> Verdict:
    """Return the verdict that a line of the journal gives."""
    reason, ratio = line["reason"], line["ratio"]
    return Verdict(
        Code(line["code"]),
        Reason(ReasonCode(reason["code"]), reason["text"]),
        Interval(**ratio) if ratio else None,
        line.get("noise_floor"),
        line.get("mde"),
    )


def _look(line: Mapping[str, Any]) -> Look:
    unsound = tuple(str(flaw.get("text", "")) for flaw in line.get("unsound", ()))
    return Look(line["time"], line["when"], dict(line.get("readings", {})), unsound)


def _identity(line: Mapping[str, Any]) -> Identity:
    return line["backend"], line["reference"], line["candidate"]
