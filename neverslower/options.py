"""Turn the command line's words into a plan: what a run selects and how it measures. Free of pytest, to be tested."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import backends
from neverslower import option_values as read
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.judge.sequential import PRESETS
from neverslower.judge.verdict import STANDARD
from neverslower.maps import advice_file
from neverslower.models import reading
from neverslower.models.reading import PrunedName
from neverslower.option_table import EXIT_CODES, OPTIONS, SIDES, UNSOUND
from neverslower.outcome.run_verdict import LEAST_DECIDED
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.selection import PROFILES, Format, Profile, Selection
from neverslower.run_plan import RunPlan
from neverslower.worker.process import WorkerSpec

TUNING_BUDGET = 600.0
"""Seconds that all searches for schedules may take together, unless the user says otherwise."""
EXPLAIN_BUDGET = 60.0
"""Seconds that finding causes may take, unless the user says otherwise."""
HUNT_BUDGET = 60.0
"""Seconds after which a hunt draws no new layer, unless the user says otherwise."""
TIME_LIMIT = 120.0
"""Seconds that a worker may take for one problem, unless the user says otherwise."""
MOST_SEED = 2**32 - 1
MOST_IMAGES = 65536
"""The largest batch that may be asked for."""
TRIALS = 16
"""Candidates that each search for a schedule times, unless the user says otherwise."""


def plan(values: Mapping[str, Any], comparing: bool = False) -> RunPlan:
    """Return the plan of a run from its parsed options, by flag without dashes.

    `comparing` says that times will be compared with a baseline's, which takes several processes, as a baseline does.
    Raises NeverSlowerError for a user's mistake, the first in a fixed order.
    """
    profile = PROFILES[read.one_of("--profile", values["profile"], tuple(PROFILES))]
    dtypes = tuple(read.member(DType, text, "--dtype") for text in values["dtype"])
    layouts = tuple(read.member(Layout, text, "--layout") for text in values["layout"])
    _refuse_impossible(values, comparing)
    selection = _selection(values, profile)
    selection.places()  # Refuse an unknown name before anything else happens.
    settings = _settings(values, profile, comparing)
    specs = _specs(values)
    _refuse_formats_that_none_has(specs, values)
    error, least, unsound = values["family-error"], values["least-decided"], values["unsound"]
    run_plan = RunPlan(
        selections={name: _of_backend(name, selection) for name in specs},
        profile=profile,
        settings=settings,
        backends=specs,
        required=tuple(text.partition(":")[0] for text in values["require-backend"]),
        strict=values["strict-verdicts"],
        formats={name: _formats(name, dtypes, layouts, profile.every_format) for name in specs},
        trials=_whole(values, "trials", TRIALS),
        names_nothing=selection.names_nothing,
        hunt_budget=read.budget("--hunt-budget", values["hunt-budget"], HUNT_BUDGET),
        family_error=STANDARD.family_error if error is None else read.chance("--family-error", error),
        # What is unsound is never accepted, so it is refused before it is measured.
        refuse_unsound=read.one_of("--unsound", unsound, UNSOUND) == "refuse" or values["accept-baseline"] is not None,
        against=_against(specs, values["against"]),
        least_decided=LEAST_DECIDED if least is None else read.share("--least-decided", least),
        repeated=_repeated(values),
        explaining=tuple(f"--{key}" for key in ("explain", "explain-budget") if values[key]),
        advice=tuple(advice_file.load(Path(path)) for path in values["advised"]),
    )
    selection.require_kept([layer for name in specs for layer in run_plan.layers(name)])
    return run_plan


def _repeated(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options, as words of a command, that were given and that measuring again must repeat."""
    given = [option for option in OPTIONS if option.repeated and values[option.key] != option.default]
    return tuple(
        option.flag if values[option.key] is True else f"{option.flag}={values[option.key]}" for option in given
    )


def _selection(values: Mapping[str, Any], profile: Profile) -> Selection:
    side = read.one_of("--side", values["side"], SIDES)
    keep = tuple(read.keep(text) for text in values["keep"])
    batches = tuple(dict.fromkeys(read.whole("--batch", text, most=MOST_IMAGES) for text in values["batch"]))
    named, pruned = _pruned_name(values), None
    models = reading.models(values)
    if named:
        original, pruned = reading.with_pruned(named, models[0], values["input"], bool(values["fused"]))
        models = (original,)
    return Selection(
        profile=profile,
        networks=tuple(values["network"]),
        layers=tuple(values["layer"]),
        problems=tuple(values["problem"]),
        models=models,
        pruned=pruned,
        batches=batches,
        bias=values["bias"],
        post_ops=None if values["post-ops"] is None else read.post_ops(values["post-ops"]),
        sides=(Side.OUT, Side.IN) if side == "both" else (Side(side),),
        keep=keep,
    )


def _refuse_impossible(values: Mapping[str, Any], comparing: bool) -> None:
    """Raise NeverSlowerError for an empty reason, and for options that exclude each other."""
    if values["accept-baseline"] is not None and not values["accept-baseline"].strip():
        raise NeverSlowerError("--accept-baseline needs a reason, which is stored with the baseline")
    if values["against"] and comparing:
        raise NeverSlowerError("--against and --benchmark-compare both say what to compare with; leave one out")
    read.one_of("--exit-codes", values["exit-codes"], EXIT_CODES)
    for flag, read_place in (("against", read.library), ("worker", read.spec)):
        if values[flag] is not None:
            read_place(f"--{flag}", values[flag])


def _pruned_name(values: Mapping[str, Any]) -> PrunedName | None:
    """Return what --pruned names, None without it.

    Raises NeverSlowerError where it has not one original, or is next to an option that it leaves no room for.
    """
    if values["pruned"] is None:
        return None
    flag = f"--pruned {values['pruned']}"
    originals = [*values["model"], *values["onnx"]]
    if len(originals) != 1:
        those = f"; {' and '.join(originals)} are {len(originals)}" if originals else ""
        raise NeverSlowerError(f"{flag} needs its one original: name that with --model or --onnx{those}")
    for name in ("keep", "side"):
        if values[name] not in ([], "out"):
            raise NeverSlowerError(f"{flag}: the pruned model says which channels are left; leave out --{name}")
    for name in ("network", "problem", "problems"):
        if values[name]:
            raise NeverSlowerError(f"{flag}: such a run compares these two models alone; leave out --{name}")
    return PrunedName.parse(values["pruned"], values["input"])


def _settings(values: Mapping[str, Any], profile: Profile, comparing: bool) -> Settings:
    """Return how to measure; whatever compares stored or other times needs several passes, for their variance."""
    several = comparing or bool(values["against"] or values["accept-baseline"])
    preset = values["preset"]
    return Settings(
        preset=profile.preset if preset is None else read.one_of("--preset", preset, tuple(PRESETS)),
        passes=_whole(values, "passes", profile.passes if several else 1),
        blocks=_whole(values, "blocks", Settings.blocks),
        seed=0 if values["seed"] is None else read.whole("--seed", values["seed"], 0, MOST_SEED),
        time_budget=read.budget("--time-budget", values["time-budget"], profile.time_budget),
        tuning_budget=read.budget("--tuning-budget", values["tuning-budget"], TUNING_BUDGET),
        explain_budget=read.budget("--explain-budget", values["explain-budget"], EXPLAIN_BUDGET),
        explain_all=values["explain"],
    )


def _whole(values: Mapping[str, Any], name: str, default: int) -> int:
    """Return the number that an option gives, or the default."""
    return default if values[name] is None else read.whole(f"--{name}", values[name])


def _of_backend(name: str, selection: Selection) -> Selection:
    """Return the user's selection; where nothing is named, a slow backend's few layers instead of a whole network."""
    few = backends.load(name).CAPABILITIES.quick_layers
    return replace(selection, layers=few) if few and selection.names_nothing and selection.profile.few else selection


def usual_selection(name: str) -> Selection:
    """Return what a run of a backend measures when the user names nothing."""
    return _of_backend(name, Selection())


def _specs(values: Mapping[str, Any]) -> dict[str, WorkerSpec]:
    """Return a worker's spec for each backend asked for, `NAME` or `NAME:ARGUMENT`, else for each that is installed.

    Raises NeverSlowerError for an unknown name, and for one that is named with two arguments.
    """
    named: Sequence[str] = list(dict.fromkeys([*values["backend"], *values["require-backend"]]))
    specs, limit = {}, values["time-limit"]
    for text in named or [name for name in backends.TABLE if _offers_itself(name)]:
        name, _, argument = text.partition(":")
        backends.load(name)
        if name in specs:
            raise NeverSlowerError(f"--backend {text}: {name} is named twice; run it once for each argument")
        specs[name] = WorkerSpec(
            backend=name,
            argument=argument,
            execnet=read.spec("--worker", values["worker"]),
            threads=_whole(values, "threads", 1),
            time_limit=TIME_LIMIT if limit is None else read.limit("--time-limit", limit),
        )
    return specs


def _against(specs: Mapping[str, WorkerSpec], against: str | None) -> dict[str, WorkerSpec]:
    """Return the spec of the library that each backend is compared with; none where the user names none."""
    if not against:
        return {}
    execnet = read.library("--against", against)
    return {name: replace(spec, execnet=execnet, named=against.strip()) for name, spec in specs.items()}


def _offers_itself(name: str) -> bool:
    return not backends.load(name).CAPABILITIES.on_request and not backends.missing_modules(name)


def _formats(backend: str, dtypes: tuple[DType, ...], layouts: tuple[Layout, ...], every: bool) -> tuple[Format, ...]:
    """Return the user's dtypes and layouts in every combination; what is not named is the backend's default."""
    own = backends.load(backend).CAPABILITIES.formats
    if not dtypes and not layouts:
        return own if every else own[:1]
    chosen = itertools.product(dtypes or (own[0][0],), layouts or (own[0][1],))
    return tuple(dict.fromkeys(chosen))


def _refuse_formats_that_none_has(specs: Mapping[str, WorkerSpec], values: Mapping[str, Any]) -> None:
    """Raise NeverSlowerError for a dtype or layout that no chosen backend can do.

    One that only some can't do is no mistake: those backends skip it.
    """
    for flag, kind, axis in (("dtype", DType, "dtypes"), ("layout", Layout, "layouts")):
        can = {name: getattr(backends.load(name).CAPABILITIES, axis) for name in specs}
        for text in values[flag]:
            if can and not any(read.member(kind, text, f"--{flag}") in those for those in can.values()):
                listed = "; ".join(f"{name} has {', '.join(sorted(map(str, those)))}" for name, those in can.items())
                raise NeverSlowerError(f"--{flag} {text}: no chosen backend can do that ({listed})")
