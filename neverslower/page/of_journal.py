"""Make the parts of an account from a journal: its sources, its cases with what they rest on, its whole networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Evidence, Plan
from neverslower.files.shown import shown
from neverslower.judge.cause import Remedy
from neverslower.judge.verdict import Code, Interval, Verdict
from neverslower.outcome.concluded import Concluded
from neverslower.outcome.tally import proved_unconfirmed
from neverslower.page import again
from neverslower.page.account import UNJUDGED, Case, Cause, Kind, LayerCosts, Sampled, Source, Whole
from neverslower.page.journalled import Journalled, OneLibrary, verdict_of
from neverslower.page.numbers import Processes, medians, ratio_of, rounded, sampled
from neverslower.problem.convolution import Side
from neverslower.problem.subject import Subject
from neverslower.problem.whole import is_network
from neverslower.report import words

UNENDED = "this run did not end"
"""How a remark begins that says so."""
_EXACT = {"MORE": Evidence.INSTRUCTIONS, "FEWER": Evidence.INSTRUCTIONS, "CHANGED": Evidence.DISPATCH}


@dataclass
class Parts:
    """What an account is put together from, in the order in which records are read; plans are kept once each.

    `changes` says of each journal of two libraries how many channel counts changed how, `notes` what a record leaves
    out.
    """

    sources: list[Source] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)
    grids: list[LayerCosts] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _plans: dict[tuple[object, ...], int] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def plan(self, plan: Plan | None) -> int | None:
        """Return the number of a plan, which is added where it is new; None for none."""
        if plan is None:
            return None
        key = (plan.name, plan.steps, plan.shares, plan.rank, plan.offered, plan.workspace)
        if key not in self._plans:
            self._plans[key] = len(self.plans)
            self.plans.append(plan)
        return self._plans[key]


def add(parts: Parts, path: Path, journal: Journalled, kind: Kind = Kind.JOURNAL) -> None:
    """Add what a journal says, the library under test first: it is compared with that of `--against`."""
    first = len(parts.sources)
    for library in (journal.now, journal.before):
        for fingerprint in library.fingerprints.values():
            _Adding(parts, path, journal, library, fingerprint, kind).add()
    _link(parts.sources, first)


def _link(sources: list[Source], first: int) -> None:
    """Say of each source which other one of the same journal it is compared with, and what differs there."""
    before = {source.backend: number for number, source in enumerate(sources) if number >= first and source.before}
    for number, source in enumerate(sources):
        if number < first or source.before or source.backend not in before:
            continue
        other = sources[before[source.backend]]
        differs = tuple(source.fingerprint.changes(other.fingerprint))
        sources[number] = replace(source, compared=before[source.backend], differs=differs)


class _Adding:
    """Adds one backend of one library of a journal."""

    def __init__(
        self, parts: Parts, path: Path, journal: Journalled, library: OneLibrary, fingerprint: Fingerprint, kind: Kind
    ) -> None:
        self._parts, self._path, self._journal, self._library = parts, path, journal, library
        self._fingerprint, self._kind = fingerprint, kind
        self._number, self._processes = len(parts.sources), Processes()
        self._before = library is journal.before
        self._spec = library.specs.get(fingerprint.backend, "")

    def add(self) -> None:
        """Add the source, its cases and its whole networks."""
        backend = self._fingerprint.backend
        mine = [identity for identity in self._library.verdicts if identity[0] == backend]
        said = self._library.concluded
        cases = [with_findings(self._case(one), said.get(one, ())) for one in mine if not is_network(one[1])]
        self._parts.cases += cases
        self._parts.wholes += [self._whole(identity) for identity in mine if is_network(identity[1])]
        unjudged = self._library.unjudged(backend)
        self._parts.wholes += [self._unjudged(identity) for identity in unjudged if is_network(identity[1])]
        self._parts.sources.append(self._source(cases, mine))

    def _source(self, cases: Sequence[Case], mine: Sequence[Identity]) -> Source:
        fingerprint, library, backend = self._fingerprint, self._library, self._fingerprint.backend
        passes = [taken for identity in mine for taken in library.taken(identity)]
        return Source.of(
            fingerprint,
            name=shown(self._path),
            kind=self._kind,
            evidence=_evidence(fingerprint, cases),
            remarks=(*library.remarks.get(backend, ()), *self._unended(mine)),
            settings=self._journal.settings,
            clock=next((taken.clock for taken in passes if taken.clock), ""),
            cache=passes[0].cache if passes else "",
            looks=tuple(library.looks.get(backend, ())),
            processes=len(self._processes),
            discarded=sum(taken.discarded for taken in passes),
            seconds=self._journal.seconds,
            before=self._before,
        )

    def _unended(self, mine: Sequence[Identity]) -> Iterator[str]:
        """Yield how far a run came that did not end; a hunt's journal never says that it ends."""
        journal, asked = self._journal, self._journal.settings.get("comparisons")
        cut = bool(self._library.unjudged(self._fingerprint.backend)) and journal.judged < (asked or 0)
        ended = journal.run is not None or (journal.seconds is not None and not cut)
        if self._kind is Kind.JOURNAL and journal.settings and not ended:
            judged = counted(len(mine), "comparison")
            if asked is not None:
                judged = f"{journal.judged:,} of {counted(asked, 'comparison')}"
            yield f"{UNENDED}: it had judged {judged}"

    def _case(self, identity: Identity) -> Case:
        line, library = self._library.verdicts[identity], self._library
        backend, *keys = identity
        reference, candidate = (Subject.from_key(key) for key in keys)
        layer, side = named_in(line["id"], backend, candidate)
        seen = [library.examined.get((backend, key)) for key in keys]
        plans = [self._parts.plan(one.plan) if one else None for one in seen]
        counted = [float(one.instructions) if one and one.instructions else None for one in seen]
        timed = medians(library.taken(identity))
        return Case(
            source=self._number,
            id=line["id"],
            layer=layer,
            problem=keys[1],
            unpruned=keys[0],
            dtype=str(candidate.problem.dtype),
            layout=str(candidate.problem.layout),
            side=str(side),
            channels=candidate.problem.channels(side),
            whole=reference.problem.channels(side),
            code=str(Code(line["code"])),
            reason=line["reason"]["code"],
            text=line["reason"]["text"],
            proved=proved_by(verdict_of(line)),
            ratio=_ratio(line["ratio"]),
            noise_floor=_rounded(line.get("noise_floor")),
            mde=_rounded(line.get("mde")),
            cause=_cause(library.explained.get(identity)),
            reference_plan=plans[0],
            plan=plans[1],
            reference_amount=counted[0] or timed[0],
            amount=counted[1] or timed[1],
            samples=self._samples(identity),
            policies=(reference.policy, candidate.policy) if reference.policy or candidate.policy else None,
            again=self._again(layer, reference, candidate, side),
            alone=again.script_alone(self._fingerprint, candidate, seen[1].plan.name if seen[1] else "", self._spec),
        )

    def _samples(self, identity: Identity) -> tuple[Sampled, ...]:
        return sampled(self._library.taken(identity), self._processes)

    def _again(self, layer: str, reference: Subject, candidate: Subject, side: Side) -> str:
        own, against = self._journal.layers.get(layer), str(self._journal.settings.get("against", ""))
        return again.measure_again(self._fingerprint, layer, reference, candidate, side, own, against, self._spec)

    def _whole(self, identity: Identity) -> Whole:
        line = self._library.verdicts[identity]
        return Whole(
            self._number,
            line["id"],
            str(Code(line["code"])),
            line["reason"]["code"],
            line["reason"]["text"],
            proved_by(verdict_of(line)),
            _ratio(line["ratio"]),
        )

    def _unjudged(self, identity: Identity) -> Whole:
        """Return a network that was timed and not judged, with what it took."""
        passes = self._library.taken(identity)
        count = counted(len(passes), "process", "processes")
        before, after = medians(passes)
        times = f": {words.seconds(before)} → {words.seconds(after)}" if before and after else ""
        text = f"the run ended before it was judged; medians of {count}{times}"
        return Whole(self._number, self._library.ids[identity], str(Code.UNDECIDED), UNJUDGED, text)


def with_findings(case: Case, found: Sequence[Concluded]) -> Case:
    """Return a case with what items said of it, the gravest first; as it is where nothing was said."""
    if not found:
        return case
    return replace(case, finding=found[0].finding, outcome=found[0].outcome, also=tuple(found[1:]))


def proved_by(verdict: Verdict) -> str:
    """Return what the passes of an undecided comparison prove and no later process confirmed; empty for nothing."""
    return str(Code.SLOWER) if proved_unconfirmed(verdict) else ""


def named_in(name: str, backend: str, candidate: Subject) -> tuple[str, Side]:
    """Return the layer and the pruned side in a comparison's id; see Comparison.id."""
    problem = candidate.problem
    layer, _, rest = name.removeprefix(f"{backend}-").partition(f"-{problem.dtype}-{problem.layout}-")
    last = rest.removeprefix(f"{problem.epilogue}-")
    return layer, next((side for side in Side if last.startswith(str(side))), Side.OUT)


def _evidence(fingerprint: Fingerprint, cases: Sequence[Case]) -> Evidence:
    """Return the kind of evidence: what the state names, or what the verdicts are about."""
    if named := fingerprint.state.get("evidence"):
        return Evidence(named)
    return next((_EXACT[case.code] for case in cases if case.code in _EXACT), Evidence.DEVICE_TIME)


def _ratio(stored: Mapping[str, float] | None) -> tuple[float, float, float] | None:
    return ratio_of(Interval(**stored)) if stored else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def _cause(line: Mapping[str, Any] | None) -> Cause | None:
    if line is None:
        return None
    remedy = line.get("remedy")
    text = str(Remedy(remedy["channels"], Interval(**remedy["ratio"]), remedy.get("inputs"))) if remedy else ""
    return Cause(line["cause"], tuple(line["evidence"]), _ratio(line.get("best")), text)
