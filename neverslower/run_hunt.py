"""Hunts through drawn layers in a run: for wrong outputs, or for hazards, which are kept as examples."""

from __future__ import annotations

import time
from contextlib import closing

from neverslower.campaign.guard import Guard
from neverslower.campaign.progress import Progress
from neverslower.errors import Unavailable
from neverslower.files.journal import Journal
from neverslower.files.shown import shown
from neverslower.hunt.examples import KeptExamples
from neverslower.hunt.hunting import Hunted, hunt, numerics_hunt
from neverslower.hunt.oracle import Oracle
from neverslower.judge.sequential import SequentialJudge
from neverslower.outcome.known import explanation
from neverslower.run import NEVER_SLOWER, OUTPUTS, Run


def hunt_drawn(run: Run, name: str, numerics: bool, progress: Progress) -> Hunted:
    """Hunt through drawn layers on one backend, and remember in the run what was found and kept.

    Raises NeverSlowerError where the backend can't be started, or an example can't be kept.
    """
    question = OUTPUTS if numerics else NEVER_SLOWER
    try:
        with closing(Journal(run.journal_path)) as journal:
            examples, warnings, hunted = _hunt(run, name, question, journal, progress)
    except Unavailable as error:
        run.findings.lack(name, error)
        raise
    run.hunts[f"{name}, {question}"] = hunted
    saved = examples.save(hunted)
    run.kept += [*warnings, *(f"{line} ({shown(examples.path)})" for line in saved)]
    return hunted


def _hunt(
    run: Run, name: str, question: str, journal: Journal, progress: Progress
) -> tuple[KeptExamples, list[str], Hunted]:
    """Return the examples kept so far, warnings about them, and what the hunt came to."""
    plan, numerics = run.plan, question == OUTPUTS
    with Oracle(plan.backends[name], journal, SequentialJudge(run.thresholds), run.start) as oracle:
        if oracle.evidence.exact and not numerics:
            raise Unavailable(f"a hunt measures times, and {name} gives {oracle.evidence} here")
        run.fingerprints.setdefault(name, oracle.fingerprint)
        run.findings.remark(name, oracle.remarks)
        guard = Guard(run.findings, journal.write, plan.refuse_unsound, time.monotonic)
        if not numerics:  # An output is right or wrong in every state.
            guard.begin(name, oracle)
        space = plan.space(name)
        examples = KeptExamples(run.journal_path.parent / "examples", oracle.fingerprint, question)
        explicit, warnings = examples.load()
        if numerics:
            hunted = numerics_hunt(oracle, space, explicit, plan.hunt_budget, progress)
        else:
            explains = explanation(run.rules.about(oracle.fingerprint), run.thresholds)
            hunted = hunt(oracle, space, explicit, plan.hunt_budget, progress, explained=explains)
        guard.look(name, oracle, "after")
        if guard.worse:
            run.findings.spoil(name, guard.worse, hunting=True)
    return examples, warnings, hunted
