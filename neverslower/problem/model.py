"""A user's own model as data: its convolutions by the names of its modules, and what of it can't be measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from neverslower.counted import counted
from neverslower.problem.networks import Layer


@dataclass(frozen=True)
class LeftOut:
    """An operation that is not measured: its place, what it is, and its multiply-accumulates."""

    place: str
    what: str
    macs: int


@dataclass(frozen=True)
class Model:
    """The convolutions of a model in the order in which they run, and what is left out of it.

    `name` is empty for a file of problems. `source` are the options that bring the model in, `remarks` say what a user
    has to know of how it was read. It is not `followed` where what follows its convolutions was asked for and is not
    known of all of them. `digest` is one of its operations and its Python, empty where neither was read.
    """

    name: str
    layers: tuple[Layer, ...]
    left_out: tuple[LeftOut, ...] = ()
    source: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    followed: bool = True
    digest: str = ""

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all layers and of what is left out."""
        return sum(layer.problem.macs for layer in self.layers) + sum(left.macs for left in self.left_out)

    @property
    def title(self) -> str:
        """Return the name as messages have it: that of the model, or of the file of problems."""
        return self.name or self.source[-1]

    def record(self) -> dict[str, Any]:
        """Return the model as plain data, for a journal: the problem of each place, and what is left out."""
        return {
            "model": self.title,
            "source": list(self.source),
            "layers": {layer.name: layer.problem.key for layer in self.layers},
            "left_out": [asdict(left) for left in self.left_out],
            "remarks": list(self.remarks),
        }

    def notes(self) -> list[str]:
        """Return one line each: how many convolutions and distinct shapes, remarks, what is left out with its share."""
        distinct = len({layer.problem for layer in self.layers})
        convolutions = counted(len(self.layers), "convolution")
        lines = [f"{self.title}: {convolutions}, {distinct} distinct, {self.macs / 1e9:.3g} GMACs"]
        lines += [f"{self.title}: {remark}" for remark in self.remarks]
        counts, macs = Counter[str](), Counter[str]()
        for left in self.left_out:
            counts[left.what] += 1
            macs[left.what] += left.macs
        for what, count in counts.items():
            plural = what if count == 1 or what == "attention" else f"{what}s"
            places = [left.place for left in self.left_out if left.what == what]
            shown = ", ".join(places[:3]) + (", …" if count > 3 else "")
            lines.append(
                f"{self.title}: left out: {count} {plural} ({macs[what] / (self.macs or 1):.1%} of the MACs): {shown}"
            )
        return lines
