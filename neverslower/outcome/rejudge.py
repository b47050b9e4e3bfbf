"""A journal read again: the verdicts drawn again from its raw samples, wherever it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings, Identity, Result
from neverslower.campaign.judging import Judged, decided, pooled, unconfirmed
from neverslower.campaign.resume import Recorded, load
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Examined, PairedPass
from neverslower.judge.joint import Pooling, halved
from neverslower.judge.pooled import PooledJudge
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import Code, Judge, Reason, ReasonCode, Verdict
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.beside import baseline_of
from neverslower.outcome.upgrade import Change, changes
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.networks import Layer
from neverslower.problem.subject import Subject
from neverslower.problem.whole import is_network

Said = Mapping[Identity, Verdict]
NOTHING_SAID: Said = {}


@dataclass(frozen=True)
class Reread:
    """What another library changed, and why it was lost on the way, by backend, where it was."""

    changes: list[Change]
    alone: Mapping[str, str]


def changes_of(path: Path, said: Said = NOTHING_SAID, said_before: Said = NOTHING_SAID) -> Reread:
    """Return what another library changed, in a run with --against. Raises NeverSlowerError for another journal.

    What the run itself `said` of a comparison, and of it with the other library, is taken over; the rest is judged.
    """
    recorded = load(path, named="")
    before = recorded.of_the_other
    if not before.passes:
        raise NeverSlowerError(f"{path} holds no run with --against")
    judges = _Judges(recorded)
    recorded.drop_doubtful()
    now, then = _findings(recorded, judges, True, said), _findings(before, judges, False, said_before)
    recorded.drop_half_pairs()
    _keep_pairs(now, recorded)
    _keep_pairs(then, before)
    spec = str(recorded.settings["against"])
    choices = {name: BaselineChoice(baseline_of(then, name, spec)) for name in now.fingerprints}
    assessment = Assessment(now, choices, True, then, recorded.thresholds)
    return Reread(list(changes(assessment, now)), then.alone)


def _keep_pairs(findings: Findings, recorded: Recorded) -> None:
    """Keep the passes that have a partner, for what changed; each library's own verdicts rest on all."""
    paired = recorded.in_order
    for identity, result in findings.results.items():
        findings.finish(replace(result, passes=tuple(paired.get(identity, ()))))


class _Judges:
    """The judges that a run had, by backend."""

    def __init__(self, recorded: Recorded) -> None:
        self._settings = Settings(preset=recorded.settings["preset"], blocks=recorded.settings["blocks"])
        self._thresholds, self._pooled = recorded.thresholds, recorded.pooled
        self.family = int(recorded.settings["comparisons"])

    def of(self, backend: str) -> SequentialJudge:
        """Return the judge of each comparison by itself."""
        shared = backend in self._pooled
        return self._settings.judge(halved(self._thresholds) if shared else self._thresholds)

    def pooling(self, backend: str) -> Pooling | None:
        """Return the judge of all comparisons at once, where there was one."""
        if backend not in self._pooled:
            return None
        return Pooling(PooledJudge(halved(self._thresholds)), self._pooled[backend])


def _findings(recorded: Recorded, judges: _Judges, confirms: bool, said: Said) -> Findings:
    """Return one side's findings, judged as its run would have: the old library's SLOWER is not confirmed."""
    # Whole networks have no channel counts, by which changes are told.
    samples = {identity: passes for identity, passes in recorded.in_order.items() if not is_network(identity[1])}
    together: dict[Identity, Verdict] = {}
    for backend in {identity[0] for identity in samples.keys() - said.keys()} if confirms else ():
        mine = {identity: passes for identity, passes in samples.items() if identity[0] == backend}
        together |= pooled(judges.pooling(backend), mine, judges.family)
    results = {}
    for identity, passes in samples.items():
        if confirms or identity not in recorded.crashed:
            comparison, judge = comparison_of(identity, recorded.names[identity]), judges.of(identity[0])
            if identity in said:
                judged = Judged(said[identity])
            elif confirms:
                judged = _at_the_end(judge, comparison, passes, judges.family, together)
            else:
                judged = Judged(judge(passes, judges.family))
            results[identity] = _result(recorded, comparison, passes, judged)
    return Findings(
        results=results,
        fingerprints=dict(recorded.fingerprints),
        rechecks=dict(recorded.rechecks),
        alone=dict(recorded.alone),
    )


def _at_the_end(
    judge: Judge,
    comparison: Comparison,
    passes: Sequence[PairedPass],
    family: int,
    together: Mapping[Identity, Verdict],
) -> Judged:
    """Return what a run decided of a comparison, or what its passes had shown when it ended."""
    if judged := decided(judge, comparison, passes, family, together):
        return judged
    verdict = judge(passes, family)
    late = Reason(ReasonCode.NOT_CONFIRMED, "the run ended before this was confirmed")
    return unconfirmed(verdict, late) if verdict.code is Code.SLOWER else Judged(verdict)


def _result(recorded: Recorded, comparison: Comparison, passes: Sequence[PairedPass], judged: Judged) -> Result:
    backend, *keys = comparison.identity
    reference, candidate = (_examined(recorded.examined, backend, key) for key in keys)
    return Result(
        comparison,
        judged.verdict,
        tuple(passes),
        reference,
        candidate,
        first=judged.first,
        confirmation=judged.confirmation,
    )


def _examined(known: Mapping[tuple[str, str], object], backend: str, key: str) -> Examined | None:
    examined = known.get((backend, key))
    return examined if isinstance(examined, Examined) else None


def comparison_of(identity: Identity, name: str) -> Comparison:
    """Return the comparison that a journal names so: see Comparison.id."""
    backend, reference, candidate = identity
    unpruned, pruned = Subject.from_key(reference), Subject.from_key(candidate)
    middle = f"-{pruned.problem.dtype}-{pruned.problem.layout}-"
    layer, _, rest = name.removeprefix(f"{backend}-").partition(middle)
    side = next((side for side in Side if rest.startswith(str(side))), Side.OUT)
    policies = (unpruned.policy, pruned.policy)
    return Comparison(backend, Layer("", 0, layer, unpruned.problem), pruned.problem, side, policies=policies)
