"""Budgets in the user's words: `latency=0.7x`, `params=0.7x`, `macs=0.7x`, shares of what the unpruned model has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from neverslower.enums import StrEnum
from neverslower.errors import NeverSlowerError


class Resource(StrEnum):
    """What a width costs: the sum of its layers' times, the weights and biases of its layers, or their MACs."""

    LATENCY = "latency"
    PARAMS = "params"
    MACS = "macs"


@dataclass(frozen=True)
class Budget:
    """At most this share of what the unpruned model takes of a resource."""

    resource: Resource
    share: float

    def __str__(self) -> str:
        return f"{self.resource}={self.share:g}x"


DEFAULT = Budget(Resource.LATENCY, 0.7)


def parse(texts: Sequence[str]) -> tuple[Budget, ...]:
    """Return the budgets of --budget, the default one where there is none. Raises NeverSlowerError."""
    budgets = tuple(_budget(part) for text in texts for part in text.split(",")) or (DEFAULT,)
    for budget in budgets:
        if [other.resource for other in budgets].count(budget.resource) > 1:
            raise NeverSlowerError(f"--budget {budget}: {budget.resource} has two budgets; give one")
    return budgets


def _budget(text: str) -> Budget:
    known = "|".join(Resource)
    matched = re.fullmatch(rf"({known})=(\d*\.?\d+)x", text.strip())
    if not matched:
        raise NeverSlowerError(f"--budget {text}: write such as latency=0.7x (resources: {known.replace('|', ', ')})")
    share = float(matched[2])
    if not 0 < share < 1:
        raise NeverSlowerError(f"--budget {text}: from above 0x to below 1x, a share of the unpruned model's")
    return Budget(Resource(matched[1]), share)
