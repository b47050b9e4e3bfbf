"""Measure a map: layers at every channel count, each count a comparison of one campaign, with its verdict.

A map is measured as everything else is: the campaign interleaves each count with the unpruned layer, in several
processes, judges all counts together, and journals every sample. What is here chooses the comparisons and their
settings.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.judge.joint import can_pool
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.maps.choosing import Chooser, Inferred
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

INTERRUPTED, OUT_OF_TIME = "interrupted", "the time budget ended"
FEW_BLOCKS = 2
"""Blocks of a pass where all layers are judged together, by one ratio a process: processes differ more than rounds.

On an H200, 2 of the 8 recorded blocks decide what all 8 do: after three passes 209 of ResNet-50's 241 comparisons, as
among 11,264 (bench/data/journals/cudnn-h200-resnet50-float16-24-passes.jsonl.xz).
"""


@dataclass(frozen=True)
class Mapped:
    """What a map's campaign found of these layers; `ended_early` says why it is a part of what was asked.

    `began` is a time in ISO format, `seconds` what the whole campaign took. `inferred` holds, by the key of a layer's
    problem, the counts that were not timed: none of them has a result. `unknown` counts those that are neither,
    of layers whose curve was not complete when the time ended.
    """

    backend: str
    layers: tuple[Layer, ...]
    findings: Findings
    settings: Settings
    began: str
    seconds: float
    ended_early: str = ""
    inferred: Mapping[str, Inferred] = field(default_factory=dict)
    unknown: int = 0

    @property
    def evidence(self) -> Evidence:
        """Return the kind of evidence, which all counts share."""
        return next((result.evidence for result in self.findings.results.values()), Evidence.DEVICE_TIME)

    @property
    def decided(self) -> int:
        """Return how many counts have a verdict that rests on a measurement and decides."""
        codes = (result.verdict.code for result in self.findings.results.values())
        return sum(code.measured and code is not Code.UNDECIDED for code in codes)

    def unmeasured(self) -> dict[str, str]:
        """Return the layers of which not one count was measured, by name, each with the most frequent reason."""
        reasons: dict[str, list[str]] = {layer.problem.key: [] for layer in self.layers}
        measured = set()
        for result in self.findings.results.values():
            key, verdict = result.comparison.reference.key, result.verdict
            reasons[key].append(f"{verdict.code}, {verdict.reason.text}")
            if result.observed and verdict.code.measured:
                measured.add(key)
        left = [layer for layer in self.layers if layer.problem.key not in measured]
        return {layer.name: self._why(layer, reasons[layer.problem.key]) for layer in left}

    def _why(self, layer: Layer, reasons: Sequence[str]) -> str:
        if reasons:
            return Counter(reasons).most_common(1)[0][0]
        if self.unknown and countable(layer.problem):
            return "the time budget ended before a count of it was timed"
        return "it has no channel count to be pruned to"

    def require_measured(self) -> None:
        """Raise NeverSlowerError, which gives the reasons, where not one channel count was measured."""
        lost = self.unmeasured()
        if len(lost) < len(self.layers):
            return
        if self.ended_early:
            raise NeverSlowerError(f"{self.ended_early} before anything was measured")
        raise NeverSlowerError(f"no channel count could be measured: {reasons_of(lost)}")


def reasons_of(lost: Mapping[str, str]) -> str:
    """Return in a line why layers were not measured; layers that share a reason are named together."""
    layers: dict[str, list[str]] = {}
    for name, why in lost.items():
        layers.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in layers.items())


def settings_of(layers: int, time_budget: float | None = None, blocks: int | None = None) -> Settings:
    """Return how a map of so many layers is measured, in `time_budget` seconds at most.

    Causes are read from the plans afterwards. Few layers are judged block by block, which takes more blocks.
    """
    usual = FEW_BLOCKS if can_pool(layers, None) else Settings().blocks
    return Settings(blocks=blocks or usual, time_budget=time_budget, explain_budget=0.0, whole=True)


def comparisons(backend: str, layers: Sequence[Layer], side: Side = Side.OUT) -> list[Comparison]:
    """Return each layer against itself pruned to every count on a side.

    Where time is short, counts that are spread over all of the layer come first.
    """
    return [
        Comparison(backend, layer, layer.problem.prune(layer.problem.channels(side) - count, side), side, _rank(count))
        for layer in layers
        for count in countable(layer.problem, side)
    ]


def countable(problem: ConvProblem, side: Side = Side.OUT) -> list[int]:
    """Return the numbers of filters, or of input channels, that a layer can be pruned to, ascending."""
    step = problem.prune_step(side)
    return list(range(step, problem.channels(side), step))


def _rank(count: int) -> int:
    """Return 1 for multiples of 64 and their neighbours below, 2 for those of 32, and so on to 6 for those of 2."""
    return next(rank for rank, size in enumerate((64, 32, 16, 8, 4, 2), start=1) if (count + 1) % size < 2)


def measure(
    campaign: Campaign, backend: str, layers: Sequence[Layer], asked: Sequence[Comparison] | None = None
) -> Mapped:
    """Measure a map of these layers by a campaign on one backend; a part of it where the user interrupts.

    `asked` are the comparisons, every channel count where None. Raises NeverSlowerError where the backend can't be
    measured here, or gives neither times nor counts, and where the user interrupts before the device is known.
    """
    asked = comparisons(backend, layers) if asked is None else asked
    if not asked:
        raise NeverSlowerError("no layer that was named has a channel count to be pruned to")
    began, begin = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    ended_early = ""
    try:
        campaign.run(asked)
    except KeyboardInterrupt:
        ended_early = INTERRUPTED
    findings = campaign.findings
    findings.require(backend)
    if ended_early and backend not in findings.fingerprints:
        raise NeverSlowerError(f"{ended_early} before anything was measured")
    seconds = time.monotonic() - begin
    mapped = Mapped(backend, tuple(layers), findings, campaign.settings, began, seconds, ended_early)
    if isinstance(campaign.choose, Chooser) and not ended_early:
        mapped = _with_inferred(mapped, campaign.choose, len(asked))
    if mapped.evidence is Evidence.DISPATCH:
        raise NeverSlowerError(
            f"{backend} gives dispatches here, and a map holds times or instructions; record them with pytest's --keep "
            "and --accept-baseline, and read `advise --record` off that"
        )
    return mapped


def _with_inferred(mapped: Mapped, choose: Chooser, asked: int) -> Mapped:
    """Return what was mapped of so many counts with what is inferred of the layers of which none was left out."""
    results = mapped.findings.results
    cut = {key for (_, key, _), result in results.items() if result.verdict.reason.code is ReasonCode.TIME_BUDGET}
    inferred = {key: counts for key, counts in choose.inferred().items() if key not in cut}
    known = len(results) + sum(len(counts.counts) for counts in inferred.values())
    return replace(mapped, inferred=inferred, unknown=asked - known)
