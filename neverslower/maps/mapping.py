"""Measure a map: layers at every channel count, each count a comparison of one campaign, with its verdict.

A map is measured as everything else is: the campaign interleaves each count with the unpruned layer, in several
processes, judges all counts together, and journals every sample. What is here chooses the comparisons and their
settings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.judge.joint import can_pool
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

FEW_BLOCKS = 4
"""Blocks of a pass where all layers are judged together, by one ratio a process: processes differ more than rounds."""


@dataclass(frozen=True)
class Mapped:
    """What a map's campaign found of these layers; `ended_early` says why it is a part of what was asked.

    `began` is a time in ISO format, `seconds` what the whole campaign took.
    """

    backend: str
    layers: tuple[Layer, ...]
    findings: Findings
    settings: Settings
    began: str
    seconds: float
    ended_early: str = ""

    @property
    def evidence(self) -> Evidence:
        """Return the kind of evidence, which all counts share."""
        return next((result.evidence for result in self.findings.results.values()), Evidence.DEVICE_TIME)


def settings_of(layers: int, time_budget: float | None = None, blocks: int | None = None) -> Settings:
    """Return how a map of so many layers is measured, in `time_budget` seconds at most.

    Causes are read from the plans afterwards. Few layers are judged block by block, which takes more blocks.
    """
    usual = FEW_BLOCKS if can_pool(layers, None) else Settings().blocks
    return Settings(blocks=blocks or usual, time_budget=time_budget, explain_budget=0.0, whole=True)


def comparisons(backend: str, layers: Sequence[Layer]) -> list[Comparison]:
    """Return each layer against itself pruned to every count.

    Where time is short, counts that are spread over all of the layer come first.
    """
    return [
        Comparison(backend, layer, layer.problem.prune(layer.problem.out_channels - count), telling=_rank(count))
        for layer in layers
        for count in countable(layer.problem)
    ]


def countable(problem: ConvProblem) -> list[int]:
    """Return the numbers of filters that a layer can be pruned to, ascending."""
    step = problem.prune_step(Side.OUT)
    return list(range(step, problem.out_channels, step))


def _rank(count: int) -> int:
    """Return 1 for multiples of 64 and their neighbours below, 2 for those of 32, and so on to 6 for those of 2."""
    return next(rank for rank, size in enumerate((64, 32, 16, 8, 4, 2), start=1) if (count + 1) % size < 2)


def measure(campaign: Campaign, backend: str, layers: Sequence[Layer]) -> Mapped:
    """Measure a map of these layers by a campaign on one backend; a part of it where the user interrupts.

    Raises NeverSlowerError where the backend can't be measured here, or gives neither times nor counts.
    """
    asked = comparisons(backend, layers)
    if not asked:
        raise NeverSlowerError("no layer that was named has a channel count to be pruned to")
    began, begin = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    ended_early = ""
    try:
        campaign.run(asked)
    except KeyboardInterrupt:
        ended_early = "interrupted"
    findings = campaign.findings
    if backend in findings.unavailable:
        raise NeverSlowerError(f"{backend} can't be measured: {findings.unavailable[backend]}")
    seconds = time.monotonic() - begin
    mapped = Mapped(backend, tuple(layers), findings, campaign.settings, began, seconds, ended_early)
    if mapped.evidence is Evidence.DISPATCH:
        raise NeverSlowerError(f"{backend} gives dispatches here, and a map holds times or instructions")
    return mapped
