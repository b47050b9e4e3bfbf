"""The question of widths as data: what each width of a group keeps, and what each layer costs at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neverslower.widths.budget import Resource


@dataclass(frozen=True)
class Price:
    """What a layer costs: seconds (or instructions), weights and biases, multiply-accumulates."""

    latency: float = 0.0
    params: float = 0.0
    macs: float = 0.0

    def of(self, resource: Resource) -> float:
        """Return the price in one resource."""
        return float(getattr(self, resource.value))

    def __add__(self, other: Price) -> Price:
        return Price(self.latency + other.latency, self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True)
class Choice:
    """A group of coupled channels with the widths it may have, ascending, the unpruned one last.

    `kept[k]` is the importance that k channels keep.
    """

    name: str
    widths: tuple[int, ...]
    kept: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Return the unpruned width."""
        return self.widths[-1]

    def share(self, width: int) -> float:
        """Return the share of the importance that a width keeps, 1 where there is nothing to lose."""
        return self.kept[width] / self.kept[-1] if self.kept[-1] else 1.0


@dataclass(frozen=True)
class Total:
    """The input channels of a layer that reads several groups side by side: `constant` and the widths of its groups.

    Its price is that of the smallest of `counts` that the sum does not exceed.
    """

    name: str
    groups: tuple[str, ...]
    constant: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Item:
    """A layer, or a part of its price, that depends on the widths of no, one or two groups (or totals).

    `prices` are by these widths. What has no price may not be chosen.
    """

    name: str
    groups: tuple[str, ...]
    prices: Mapping[tuple[int, ...], Price]


@dataclass(frozen=True)
class Question:
    """All groups that may change, and all that their widths cost; `fixed` is the price of what does not change."""

    choices: tuple[Choice, ...]
    items: tuple[Item, ...]
    totals: tuple[Total, ...] = ()
    fixed: Price = field(default_factory=Price)

    @property
    def unpruned(self) -> dict[str, int]:
        """Return the widths that change nothing."""
        return {choice.name: choice.channels for choice in self.choices}

    @property
    def importance(self) -> float:
        """Return the importance of all channels that may go."""
        return sum(choice.kept[-1] for choice in self.choices)

    def kept_by(self, widths: Mapping[str, int]) -> float:
        """Return the importance that these widths keep."""
        return sum(choice.kept[widths[choice.name]] for choice in self.choices)

    def share_kept(self, widths: Mapping[str, int]) -> float:
        """Return the share of the importance that these widths keep, 1 where there is nothing to lose."""
        return self.kept_by(widths) / self.importance if self.importance else 1.0

    def prices_at(self, widths: Mapping[str, int]) -> dict[str, Price]:
        """Return the price of each layer at these widths, by name. Raises KeyError where one has none."""
        everything = dict(widths)
        for total in self.totals:
            count = total.constant + sum(widths[name] for name in total.groups)
            everything[total.name] = min(size for size in total.counts if size >= count)
        found: dict[str, Price] = {}
        for item in self.items:
            price = item.prices[tuple(everything[name] for name in item.groups)]
            found[item.name] = found.get(item.name, Price()) + price
        return found

    def price_at(self, widths: Mapping[str, int]) -> Price:
        """Return the price of the whole model at these widths. Raises KeyError where a layer has none."""
        return sum(self.prices_at(widths).values(), self.fixed)


@dataclass(frozen=True)
class Plan:
    """The widths that were chosen, what they keep and cost, and how far from the best they are at most.

    `gap` is a share of the goal's best value that was not ruled out; 0 where the plan is proved to be the best.
    """

    widths: Mapping[str, int]
    importance: float
    price: Price
    gap: float
