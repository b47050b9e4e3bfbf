"""What a user asked of a run, as data: what it selects and how it measures. Free of pytest, to be tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import backends
from neverslower.baseline.scope import Scope
from neverslower.campaign.settings import Settings
from neverslower.device.fingerprint import Fingerprint
from neverslower.hunt.strategies import Space
from neverslower.judge.verdict import STANDARD, Thresholds
from neverslower.maps.advice_file import StoredAdvice
from neverslower.models import whole
from neverslower.outcome import tuned_log
from neverslower.outcome.run_verdict import LEAST_DECIDED
from neverslower.outcome.tuned_log import Case
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.epilogue import Epilogue
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.problem.pairing import Pairing
from neverslower.problem.selection import Format, Profile, Selection
from neverslower.problem.whole import WholeComparison
from neverslower.worker.process import WorkerSpec


@dataclass(frozen=True)
class RunPlan:
    """Everything that the user asked of a run; what depends on the backend is by its name.

    `required` are backends without which the run can't judge, `against` the specs of the libraries to compare with.
    `names_nothing` says that the user named no layer, `strict` that hazards unknown to the baseline fail, and
    `hunt_budget` is in seconds, None for no end. `repeated` are the words of a command that measures again alike.
    `explaining` are the options about causes that the user gave.
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
    repeated: tuple[str, ...] = ()
    explaining: tuple[str, ...] = ()
    advice: tuple[StoredAdvice, ...] = ()

    def layers(self, name: str) -> list[Layer]:
        """Return the distinct layers that a backend measures, in each format."""
        return self.selections[name].distinct(self.formats[name])

    @property
    def pairing(self) -> Pairing | None:
        """Return how the layers of the user's pruned model were paired with the original's, where there is one."""
        return self._chosen.pairing if self._chosen else None

    @cached_property
    def models(self) -> list[Model]:
        """Return the user's own models and files of problems that were named, each once, a pruned one last."""
        selections = self.selections.values()
        chosen = [model for selection in selections for model in (*selection.models, selection.pruned) if model]
        return list(dict.fromkeys(chosen))

    @cached_property
    def scope(self) -> Scope:
        """Return what was selected, for choosing among stored entries."""
        return Scope(self.selections, self.formats)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Return every comparison that the run could make, on each backend."""
        return [
            comparison
            for name in self.backends
            for comparison in self.selections[name].comparisons(name, self.formats[name])
        ]

    @cached_property
    def advised(self) -> dict[Comparison, Fingerprint]:
        """Return the advised counts of the backends that are measured, each with the fingerprint it was advised for."""
        return {
            comparison: stored.fingerprint
            for stored in self.advice
            for comparison in stored.comparisons
            if comparison.backend in self.backends
        }

    def why_no_advice(self) -> str:
        """Return why advice can't be judged in this run, whatever is measured; an empty string where all can."""
        if not self.advice:
            return "no advice is named; name a file of it: --advised ADVICE.json"
        return "; ".join(filter(None, map(self._why_unjudged, self.advice)))

    def _why_unjudged(self, stored: StoredAdvice) -> str:
        backend = stored.fingerprint.backend
        if not stored.comparisons:
            return f"--advised {stored.path}: it advises no channel count on {backend}; advise again, or leave it out"
        if backend not in self.backends:
            text = f"--advised {stored.path}: advice for {backend}, which this run does not measure"
            return f"{text}; add --backend {backend}"
        return ""

    @cached_property
    def wholes(self) -> list[WholeComparison]:
        """Return the pruned network against its original, on each backend that runs whole networks."""
        chosen = self._chosen
        if self.why_no_whole() or not (chosen and chosen.pruned):
            return []
        able = [name for name in self.backends if backends.load(name).CAPABILITIES.networks]
        return [
            comparison
            for name in able
            for comparison in whole.comparisons(
                name, chosen.models[0], chosen.pruned, self.formats[name], chosen.batches
            )
        ]

    @property
    def _chosen(self) -> Selection | None:
        """Return what was chosen of models and batches: the backends' selections differ in layers alone."""
        return next(iter(self.selections.values()), None)

    def why_no_whole(self) -> str:
        """Return why no whole network is compared with another, or an empty string."""
        chosen = self._chosen
        if chosen is None or chosen.pruned is None:
            return "no pruned network to compare with its original: name both with --model and --pruned"
        if not all(map(whole.runs_from_python, (*chosen.models, chosen.pruned))):
            return "an ONNX file is read for its shapes and never run: name the Python that builds both networks"
        if chosen.layers:
            return "--layer names layers alone: leave it out to run the whole networks"
        able = [name for name in backends.TABLE if backends.load(name).CAPABILITIES.networks]
        named = " and ".join(name for name in able if name != backends.FOR_TESTING)
        return "" if set(able) & set(self.backends) else f"no chosen backend runs whole networks; {named} do"

    def notes(self) -> list[str]:
        """Return what to know of the chosen models, and which options have no effect on what that was chosen."""
        layers = {layer.name: layer for name in self.backends for layer in self.layers(name)}
        chosen = self._chosen
        left_out = self.why_no_whole() if chosen and chosen.pruned and not chosen.layers else ""
        not_run = [f"whole network: not run: {left_out}"] if left_out else []
        return [*(chosen.notes(list(layers.values())) if chosen else ()), *not_run, *self._unexplained()]

    def _unexplained(self) -> Iterator[str]:
        """Yield which backends an option about causes has no effect on."""
        explaining = {name: backends.load(name).CAPABILITIES.explains for name in self.backends}
        unable = [name for name, explains in explaining.items() if not explains]
        if self.explaining and unable:
            text = f"{', '.join(self.explaining)}: no effect on {', '.join(unable)}"
            yield f"{text}, which can't say why a layer is slower; {', '.join(backends_that('explains'))} can"

    def space(self, name: str) -> Space:
        """Return the space to draw from for a backend: what it can do, in the formats and sides that the user chose."""
        capabilities, formats = backends.load(name).CAPABILITIES, self.formats[name]
        return Space(
            dtypes=tuple(dict.fromkeys(dtype for dtype, _ in formats)),
            layouts=tuple(dict.fromkeys(layout for _, layout in formats)),
            # A drawn layer loses channels of one side: its counts are drawn apart.
            sides=tuple(side for side in self.selections[name].sides if side is not Side.TOGETHER) or (Side.OUT,),
            groups=capabilities.groups,
            dilation=capabilities.dilation,
            asymmetric_padding=capabilities.asymmetric_padding,
            largest_macs=capabilities.largest_drawn_macs,
            epilogue=Epilogue(self.selections[name].bias, self.selections[name].post_ops or ()),
        )

    @cached_property
    def tuned_log_cases(self) -> list[Case]:
        """Return the study's cases on each backend that searches: of the layers named, else of the backend's choice."""
        return [case for name in self.backends for case in self._tuned_log_cases_of(name)]

    def _tuned_log_cases_of(self, name: str) -> list[Case]:
        layers = backends.load(name).CAPABILITIES.tuned_layers
        if not layers or self.selections[name].pairing:  # Counts of a pruned model are no distances to study.
            return []
        chosen = replace(self.selections[name], layers=layers) if self.names_nothing else self.selections[name]
        return [
            case
            for layer in chosen.distinct(self.formats[name])
            for side in chosen.sides
            if side is not Side.TOGETHER  # What pads a pruned layer back pads one side.
            for counts in [chosen.kept_where_it_fits(layer, side)]
            if counts != ()
            for case in tuned_log.cases(name, layer, side, self.trials, counts or ())
        ]

    def thresholds(self, questions: int) -> Thresholds:
        """Return the thresholds of each of `questions`, which share the run's chance of a false red."""
        return replace(STANDARD, family_error=self.family_error / max(1, questions))

    def settings_fields(self, thresholds: Thresholds) -> dict[str, Any]:
        """Return how the run measures, as plain data, for a baseline."""
        return {"profile": self.profile.name} | asdict(self.settings) | {"thresholds": asdict(thresholds)}


def backends_that(capability: str) -> list[str]:
    """Return the backends that run unasked and have a capability, named by its field."""
    offered = {name: backends.load(name).CAPABILITIES for name in backends.TABLE}
    return [name for name, those in offered.items() if getattr(those, capability) and not those.on_request]
