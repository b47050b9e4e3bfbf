"""Turn the command line's words into a plan: what a run selects and how it measures. Free of pytest, to be tested."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import backends
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.hunt.strategies import Space
from neverslower.judge.sequential import PRESETS
from neverslower.judge.verdict import STANDARD, Thresholds
from neverslower.outcome import tuned_log
from neverslower.outcome.run_verdict import LEAST_DECIDED
from neverslower.outcome.tuned_log import Case
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.selection import PROFILES, Format, Profile, Selection
from neverslower.report import words
from neverslower.worker.process import LOCAL, WorkerSpec

TUNING_BUDGET = 600.0
"""Seconds that all searches for schedules may take together, unless the user says otherwise."""
EXPLAIN_BUDGET = 60.0
"""Seconds that finding causes may take, unless the user says otherwise."""
HUNT_BUDGET = 60.0
"""Seconds after which a hunt draws no new layer, unless the user says otherwise."""
DAY = 86400.0
MOST_ERROR = 0.1
"""The largest chance of a false red that may be asked for; a run that is wrongly red more often is no test."""
MOST = 1000
"""The most passes, blocks or threads that may be asked for; a larger number is a slip of the finger."""
Member = TypeVar("Member", bound=Enum)


@dataclass(frozen=True)
class Option:
    """One command-line option: its flag, its help line, and what argparse's `add_argument` takes with them."""

    flag: str
    help: str
    keywords: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the attribute under which the parsed value is stored."""
        return "neverslower_" + self.flag.strip("-").replace("-", "_")


def _many(flag: str, metavar: str, help: str) -> Option:
    return Option(flag, f"{help} (repeatable)", {"action": "append", "default": [], "metavar": metavar})


def _one(flag: str, metavar: str, help: str, default: Any = None, kind: Any = str) -> Option:
    return Option(flag, help, {"default": default, "metavar": metavar, "type": kind})


def counts(text: str) -> tuple[int, ...]:
    """Return the channel counts that `96` or `92-97` names. Raises ValueError, which argparse reports."""
    first, dash, last = text.partition("-")
    named = range(int(first), int(last if dash else first) + 1)
    if not named or len(named) > MOST:
        raise ValueError(text)
    return tuple(named)


OPTIONS = (
    _many(
        "--backend",
        "NAME",
        f"measure this backend: {', '.join(backends.TABLE)}, or with what it takes: tvm:FOLDER for the tuning "
        "database of a MetaSchedule work folder, cudnn:best or cudnn:torch for another way of choosing, cudnn:cold, "
        "cudnn:gpu=1, joined by commas; default: each that is installed",
    ),
    _many("--require-backend", "NAME", "like --backend, and a run without it cannot judge (exit code 6)"),
    _many("--network", "NAME", "measure this network's layers: alexnet, vgg16, resnet50, mobilenet_v1, mobilenet_v2"),
    _many("--layer", "PATTERN", "measure these layers: resnet50.L16, resnet50.layer2.1.conv2, 'vgg16.L*'"),
    _many("--problem", "DESCRIPTOR", "measure one convolution by its benchdnn descriptor: mb1_ic64oc64_ih56kh3ph1"),
    _many("--dtype", "DTYPE", "float32, tf32, float16 or bfloat16; default: the backend's own"),
    _many("--layout", "LAYOUT", "NCHW or NHWC; default: the backend's own"),
    Option(
        "--side",
        "channels to prune: the layer's own (out, default), its producer's (in), or both in turn",
        {"choices": ["out", "in", "both"], "default": "out"},
    ),
    Option(
        "--profile",
        "how much to measure: quick (default; ResNet-50, on a slow backend a few small layers, in five minutes) or "
        "full (every network, more passes)",
        {"choices": sorted(PROFILES), "default": "quick"},
    ),
    Option(
        "--keep",
        "prune to this channel count, or to each of 92-97, instead of at the standard distances (repeatable)",
        {"action": "append", "default": [], "metavar": "N", "type": counts},
    ),
    Option(
        "--preset",
        "how long to measure what is hard to tell: quick (at most 64 blocks of four rounds), standard (192) or "
        "thorough (384, and proof against more unlucky processes); default: the profile's",
        {"choices": list(PRESETS), "default": None},
    ),
    _one(
        "--passes",
        "N",
        "measure each comparison in so many fresh processes at the least; default 1, and the "
        "profile's 4 or 6 where times are compared with a baseline or accepted as one",
        None,
        int,
    ),
    _one("--blocks", "N", "interleaved blocks of four rounds in each pass; default 8", None, int),
    _one(
        "--family-error",
        "P",
        "the chance of any false red in the whole run, shared by its questions; default 0.01",
        STANDARD.family_error,
        float,
    ),
    _one("--time-budget", "TIME", "stop measuring after 90s, 5m, 1h, the most telling first; 0: as long as it takes"),
    _one("--time-limit", "SECONDS", "end a worker that takes longer for one problem; default 120", 120.0, float),
    _one(
        "--against",
        "SPEC",
        "measure another library beside this one, in pairs of processes, and say what is slower here; a Python as "
        "an execnet spec, such as popen//python=../old/bin/python or 'popen//python=docker run -i old python3'",
    ),
    _one("--threads", "N", "CPU threads that a backend may use; default 1", 1, int),
    _one("--worker", "SPEC", "where workers run, as an execnet spec; default popen, a process here", LOCAL),
    _one("--trials", "N", "candidates that each search of the study of tuned logs times; default 16", 16, int),
    _one("--tuning-budget", "TIME", "search for schedules that long at most; default 10m, 0: as long as it takes"),
    _one("--hunt-budget", "TIME", "draw no new layer after that long in each hunt (-m hunt); default 60s, 0: no end"),
    _one("--seed", "N", "seed of the order in which comparisons are measured; default 0", 0, int),
    _one("--explain-budget", "TIME", "look for causes that long at most, the worst first; default 60s, 0: no end"),
    Option(
        "--explain",
        "say of every channel count why it takes what it takes, and not of what is slower alone (cudnn)",
        {"action": "store_true"},
    ),
    Option(
        "--strict-verdicts",
        "for CI: fail on every hazard not known to the baseline, and on undecided, changed and incomparable ones",
        {"action": "store_true"},
    ),
    _one(
        "--least-decided",
        "SHARE",
        "with --strict-verdicts: pass although something was never begun, where so much was decided; default 95%%",
        "95%",
    ),
    Option(
        "--unsound",
        "what to do on a device whose state makes measuring pointless (throttled, hot, busy, on a Jetson clocks that "
        "are not fixed): refuse (default, exit code 6), or warn and measure anyway",
        {"choices": ["refuse", "warn"], "default": "refuse"},
    ),
    _one(
        "--baselines", "DIR", "folder of the accepted baselines; default: baselines beside pytest.ini (write it with =)"
    ),
    _one("--accept-baseline", "REASON", "store this run as the device's baseline, with the reason for it"),
    _one(
        "--journal", "FILE", "append the run's raw results there; default: a new file in .neverslower (write it with =)"
    ),
    _one("--resume", "FILE", "go on with the interrupted run of this journal: what it measured is not measured again"),
    Option(
        "--exit-codes",
        "pytest (default), or bisect: 1 regression, 125 cannot judge, above 127 broken",
        {"choices": ["pytest", "bisect"], "default": "pytest"},
    ),
)


@dataclass(frozen=True)
class RunPlan:
    """Everything that the user asked of a run; what depends on the backend is by its name.

    `required` are backends without which the run can't judge, `against` the specs of the libraries to compare with.
    `names_nothing` says that the user named no layer, `strict` that hazards unknown to the baseline fail, and
    `hunt_budget` is in seconds, None for no end.
    """

    selections: Mapping[str, Selection]
    profile: Profile
    settings: Settings
    backends: Mapping[str, WorkerSpec]
    required: tuple[str, ...]
    strict: bool
    formats: Mapping[str, tuple[Format, ...]]
    trials: int
    names_nothing: bool
    hunt_budget: float | None
    family_error: float = STANDARD.family_error
    refuse_unsound: bool = True
    against: Mapping[str, WorkerSpec] = field(default_factory=dict)
    least_decided: float = LEAST_DECIDED

    def comparisons(self) -> list[Comparison]:
        """Return every comparison that the run could make, on each backend."""
        return [
            comparison
            for name in self.backends
            for comparison in self.selections[name].comparisons(name, self.formats[name])
        ]

    def space(self, name: str) -> Space:
        """Return the space to draw from for a backend: what it can do, in the formats and sides that the user chose."""
        capabilities, formats = backends.load(name).CAPABILITIES, self.formats[name]
        return Space(
            dtypes=tuple(dict.fromkeys(dtype for dtype, _ in formats)),
            layouts=tuple(dict.fromkeys(layout for _, layout in formats)),
            sides=self.selections[name].sides,
            groups=capabilities.groups,
            dilation=capabilities.dilation,
            asymmetric_padding=capabilities.asymmetric_padding,
            largest_macs=capabilities.largest_drawn_macs,
        )

    def tuned_log_cases(self) -> list[Case]:
        """Return the study's cases on each backend that searches: of the layers named, else of the backend's choice."""
        return [case for name in self.backends for case in self._tuned_log_cases_of(name)]

    def _tuned_log_cases_of(self, name: str) -> list[Case]:
        layers = backends.load(name).CAPABILITIES.tuned_layers
        if not layers:
            return []
        chosen = replace(self.selections[name], layers=layers) if self.names_nothing else self.selections[name]
        return [
            case
            for layer in chosen.distinct(self.formats[name])
            for side in chosen.sides
            for case in tuned_log.cases(name, layer, side, self.trials, chosen.keep)
        ]

    def thresholds(self, questions: int) -> Thresholds:
        """Return the thresholds of each of so many questions, which share the run's chance of a false red."""
        return replace(STANDARD, family_error=self.family_error / max(1, questions))

    def settings_fields(self, thresholds: Thresholds) -> dict[str, Any]:
        """Return how the run measures, as plain data, for a baseline."""
        return {"profile": self.profile.name} | asdict(self.settings) | {"thresholds": asdict(thresholds)}


def plan(values: Mapping[str, Any], comparing: bool = False) -> RunPlan:
    """Return the plan of a run from its parsed options, by flag without dashes.

    `comparing` says that times will be compared with a baseline's, which takes several processes, as a baseline does.
    Raises NeverSlowerError for a user's mistake, the first in a fixed order.
    """
    profile = PROFILES[values["profile"]]
    dtypes = tuple(_member(DType, text, "--dtype") for text in values["dtype"])
    layouts = tuple(_member(Layout, text, "--layout") for text in values["layout"])
    selection = _selection(values, profile)
    selection.places()  # Refuse an unknown name before anything else happens.
    _refuse_impossible(values, comparing)
    settings = _settings(values, profile, comparing)
    specs = _specs(values)
    _refuse_formats_that_none_has(specs, values)
    run_plan = RunPlan(
        selections={name: _of_backend(name, selection) for name in specs},
        profile=profile,
        settings=settings,
        backends=specs,
        required=tuple(text.partition(":")[0] for text in values["require-backend"]),
        strict=values["strict-verdicts"],
        formats={name: _formats(name, dtypes, layouts, profile.every_format) for name in specs},
        trials=values["trials"],
        names_nothing=selection.names_nothing,
        hunt_budget=_budget("--hunt-budget", values["hunt-budget"], HUNT_BUDGET),
        family_error=values["family-error"],
        refuse_unsound=values["unsound"] == "refuse",
        against=_against(specs, values["against"]),
        least_decided=_share("--least-decided", values["least-decided"]),
    )
    run_plan.comparisons()  # Refuse a channel count that a layer can't be pruned to.
    return run_plan


def _selection(values: Mapping[str, Any], profile: Profile) -> Selection:
    side = values["side"]
    return Selection(
        profile=profile,
        networks=tuple(values["network"]),
        layers=tuple(values["layer"]),
        problems=tuple(values["problem"]),
        sides=(Side.OUT, Side.IN) if side == "both" else (Side(side),),
        keep=tuple(dict.fromkeys(count for counts_ in values["keep"] for count in counts_)),
    )


def _refuse_impossible(values: Mapping[str, Any], comparing: bool) -> None:
    """Raise NeverSlowerError for a number out of range, an empty word, or options that exclude each other."""
    for flag in ("passes", "blocks", "threads", "trials"):
        if values[flag] is not None and not 1 <= values[flag] <= MOST:
            raise NeverSlowerError(f"--{flag} {values[flag]}: from 1 to {MOST}")
    if not 0 < values["time-limit"] <= DAY:
        raise NeverSlowerError(f"--time-limit {values['time-limit']:g}: more than 0 seconds, a day ({DAY:g}) at most")
    if not 0 < values["family-error"] <= MOST_ERROR:
        raise NeverSlowerError(f"--family-error {values['family-error']:g}: more than 0, {MOST_ERROR:g} at most")
    if values["against"] is not None and not values["against"].strip():
        raise NeverSlowerError("--against needs an execnet spec, such as popen//python=../old/bin/python")
    if values["accept-baseline"] is not None and not values["accept-baseline"].strip():
        raise NeverSlowerError("--accept-baseline needs a reason, which is stored with the baseline")
    if values["against"] and comparing:
        raise NeverSlowerError("--against and --benchmark-compare both say what to compare with; leave one away")


def _settings(values: Mapping[str, Any], profile: Profile, comparing: bool) -> Settings:
    """Return how to measure; whatever compares stored or other times needs several passes, for their variance."""
    several = comparing or bool(values["against"] or values["accept-baseline"])
    return Settings(
        preset=values["preset"] or profile.preset,
        passes=values["passes"] or (profile.passes if several else 1),
        blocks=values["blocks"] or Settings.blocks,
        seed=values["seed"],
        time_budget=_budget("--time-budget", values["time-budget"], profile.time_budget),
        tuning_budget=_budget("--tuning-budget", values["tuning-budget"], TUNING_BUDGET),
        explain_budget=_budget("--explain-budget", values["explain-budget"], EXPLAIN_BUDGET),
        explain_all=values["explain"],
    )


def _of_backend(name: str, selection: Selection) -> Selection:
    """Return the user's selection; where nothing is named, a slow backend's few layers instead of a whole network."""
    few = backends.load(name).CAPABILITIES.quick_layers
    return replace(selection, layers=few) if few and selection.names_nothing and selection.profile.few else selection


def usual_selection(name: str) -> Selection:
    """Return what a run of a backend measures when the user names nothing."""
    return _of_backend(name, Selection())


def _member(kind: type[Member], text: str, flag: str) -> Member:
    """Return the member of an enumeration that a word names, in any case. Raises NeverSlowerError."""
    for member in kind:
        if str(member).lower() == text.lower():
            return member
    raise NeverSlowerError(f"{flag} {text!r}: unknown (known: {', '.join(str(member) for member in kind)})")


def _budget(flag: str, text: str | None, default: float | None) -> float | None:
    """Return the seconds of a budget, None for `0`, which is no end. Raises NeverSlowerError."""
    if text is None:
        return default
    if text == "0":
        return None
    return duration(flag, text)


def _share(flag: str, text: str) -> float:
    """Return the share that per cent name, `95%` or `95`; raises NeverSlowerError."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise NeverSlowerError(f"{flag} {text!r}: a share such as 95%, from 0% to 100%")
    return percent / 100


def duration(flag: str, text: str) -> float:
    """Return the seconds that an option names. Raises NeverSlowerError, which names the option."""
    try:
        return words.parse_duration(text)
    except ValueError as error:
        raise NeverSlowerError(f"{flag}: {error}") from None


def _specs(values: Mapping[str, Any]) -> dict[str, WorkerSpec]:
    """Return a worker's spec for each backend asked for, `NAME` or `NAME:ARGUMENT`, else for each that is installed.

    Raises NeverSlowerError for an unknown name, and for one that is named with two arguments.
    """
    named: Sequence[str] = list(dict.fromkeys([*values["backend"], *values["require-backend"]]))
    specs = {}
    for text in named or [name for name in backends.TABLE if _offers_itself(name)]:
        name, _, argument = text.partition(":")
        backends.load(name)
        if name in specs:
            raise NeverSlowerError(f"--backend {text}: {name} is named twice; run it once for each argument")
        specs[name] = WorkerSpec(
            backend=name,
            argument=argument,
            execnet=values["worker"],
            threads=values["threads"],
            time_limit=values["time-limit"],
        )
    return specs


def _against(specs: Mapping[str, WorkerSpec], against: str | None) -> dict[str, WorkerSpec]:
    """Return the spec of the library that each backend is compared with; none where the user names none."""
    return {name: replace(spec, execnet=against) for name, spec in specs.items()} if against else {}


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
            if can and not any(_member(kind, text, f"--{flag}") in those for those in can.values()):
                listed = "; ".join(f"{name} has {', '.join(sorted(map(str, those)))}" for name, those in can.items())
                raise NeverSlowerError(f"--{flag} {text}: no chosen backend can do that ({listed})")
