"""Write the commands that measure a recorded case again, from what its record says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from neverslower.device.fingerprint import Fingerprint
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import NETWORKS
from neverslower.problem.subject import Subject


def measure_again(
    fingerprint: Fingerprint,
    layer: str,
    reference: Subject,
    candidate: Subject,
    side: Side,
    own: Sequence[str] | None = None,
    against: str = "",
    spec: str = "",
) -> str:
    """Return the pytest command that measures a layer at this channel count again.

    `own` are the options that bring in the user's own model that the layer belongs to, `against` names the other
    library of a run that compared two, and `spec` the backend as the user named it, where the record says so. Empty
    where no option leads there: a layer of a pruned model, what a study of policies compares, and what a script played
    of which the record does not say which one.
    """
    whole, part = reference.problem, candidate.problem
    unknown = fingerprint.backend == "scripted" and not spec
    if unknown or reference.policy or candidate.policy or not _leads_there(whole, part, side):
        return ""
    keep = ["--keep", str(part.channels(side))] if part != whole else []
    chosen = [] if side is Side.OUT else ["--side", str(side)]
    formats = ["--dtype", str(part.dtype), "--layout", str(part.layout)]
    fused = ["--epilogue", str(part.epilogue)] if part.epilogue else []
    other = ["--against", against] if against else []
    named = [*own, "--layer", layer] if own else _layer_options(layer, whole)
    named_so = spec or spec_of(fingerprint)
    return shlex.join(["pytest", "--backend", named_so, *named, *keep, *chosen, *formats, *fused, *other])


def _leads_there(whole: ConvProblem, part: ConvProblem, side: Side) -> bool:
    distance = whole.channels(side) - part.channels(side)
    return part == whole or (distance > 0 and whole.can_prune(distance, side) and whole.prune(distance, side) == part)


def script_alone(fingerprint: Fingerprint, candidate: Subject, plan: str, spec: str = "") -> str:
    """Return the command that prints a script which times the pruned layer with the library alone; empty for none."""
    if candidate.policy or fingerprint.backend not in ("cudnn", "onednn"):
        return ""
    named = ["--plan", plan] if plan and fingerprint.backend == "cudnn" else []
    words = ["python", "-m", "neverslower", "script", candidate.problem.key]
    return shlex.join([*words, "--backend", spec or spec_of(fingerprint), *named])


def spec_of(fingerprint: Fingerprint) -> str:
    """Return the backend as `--backend` takes it, with the words that its state shows."""
    state, words = fingerprint.state, []
    if fingerprint.backend == "cudnn":
        words = [state.get("policy", "heuristic"), state.get("cache", "hot")]
        words = [word for word in words if word not in ("heuristic", "hot")]
    elif fingerprint.backend == "onednn":
        words = [state["chooses"]] if "chooses" in state else []
    elif fingerprint.backend == "acl":
        words = [fingerprint.software.get("target", ""), state.get("method", "")]
        words = [word for word in words if word not in ("", "auto")]
    return f"{fingerprint.backend}:{','.join(words)}" if words else fingerprint.backend


def _layer_options(layer: str, whole: ConvProblem) -> list[str]:
    plain, _, batch = layer.partition("@")
    if plain.partition(".")[0] in NETWORKS:
        return ["--layer", plain, *(["--batch", batch] if batch else [])]
    return ["--problem", whole.descriptor]
