"""A journal read again: the verdicts drawn anew from what it holds raw, wherever it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings, Identity, Result
from neverslower.campaign.judging import Judged, settled
from neverslower.campaign.resume import Recorded, load
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Examined, PairedPass
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import Code, Reason, ReasonCode
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.beside import baseline_of
from neverslower.outcome.upgrade import Change, changes
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.networks import Layer
from neverslower.problem.subject import Subject


@dataclass(frozen=True)
class Reread:
    """What another library changed, and why it was lost on the way, by backend, where it was."""

    changes: list[Change]
    alone: Mapping[str, str]


def changes_of(path: Path) -> Reread:
    """Return what another library changed, in a run with --against. Raises NeverSlowerError for another journal."""
    recorded = load(path, named="")
    before = recorded.of_the_other
    if not before.passes:
        raise NeverSlowerError(f"{path} holds no run with --against")
    settings = Settings(preset=recorded.settings["preset"], blocks=recorded.settings["blocks"])
    judge = settings.judge(recorded.thresholds)
    family = int(recorded.settings["comparisons"])
    recorded.drop_doubtful()
    now, then = _findings(recorded, judge, family, True), _findings(before, judge, family, False)
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


def _findings(recorded: Recorded, judge: SequentialJudge, family: int, confirms: bool) -> Findings:
    """Return one side's findings, judged as its run would have: the old library's SLOWER is not confirmed."""
    results = {
        identity: _result(recorded, identity, passes, judge, family, confirms)
        for identity, passes in recorded.in_order.items()
        if confirms or identity not in recorded.crashed
    }
    return Findings(
        results=results,
        fingerprints=dict(recorded.fingerprints),
        rechecks=dict(recorded.rechecks),
        alone=dict(recorded.alone),
    )


def _result(
    recorded: Recorded,
    identity: Identity,
    passes: list[PairedPass],
    judge: SequentialJudge,
    family: int,
    confirms: bool,
) -> Result:
    backend, *keys = identity
    reference, candidate = (_examined(recorded.examined, backend, key) for key in keys)
    judged = Judged(judge(passes, family))
    if judged.verdict.code is Code.SLOWER and confirms:
        unconfirmed = Reason(ReasonCode.NOT_CONFIRMED, "the run ended before this was confirmed")
        late = replace(judged.verdict, code=Code.UNDECIDED, reason=unconfirmed)
        judged = settled(judge, passes, family) or Judged(late, judged.verdict)
    comparison = _comparison(identity, recorded.names[identity])
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


def _comparison(identity: Identity, name: str) -> Comparison:
    """Return the comparison that a journal names so: see Comparison.id."""
    backend, reference, candidate = identity
    unpruned, pruned = Subject.from_key(reference), Subject.from_key(candidate)
    middle = f"-{pruned.problem.dtype}-{pruned.problem.layout}-"
    layer, _, rest = name.removeprefix(f"{backend}-").partition(middle)
    side = Side.IN if rest.startswith(str(Side.IN)) else Side.OUT
    policies = (unpruned.policy, pruned.policy)
    return Comparison(backend, Layer("", 0, layer, unpruned.problem), pruned.problem, side, policies=policies)
