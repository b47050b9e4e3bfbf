"""Comparisons: the unit that a test item asks for and the campaign measures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neverslower.problem.convolution import SHARES, ConvProblem, Side
from neverslower.problem.networks import Layer
from neverslower.problem.subject import Subject, TunedLog

STANDARD_DISTANCES = (1, 3, 7, 15, 31, 63, 127)
"""Channels removed, as in Radu et al., IISWC 2019; used where they are smaller than the layer."""


@dataclass(frozen=True)
class Comparison:
    """One layer against its pruned self on one backend; unpruned against unpruned gives the noise floor (A/A).

    `telling` orders comparisons when time is short: the smallest goes first. `policies` say how the library chooses its
    plan for the unpruned and for the pruned layer (see subject.py), and `label` names them in the id. Where this is
    `paired`, the candidate is a layer of the user's own pruned model, so no option of pruning leads to it. Where
    `asks_whether_faster`, it is measured until the pruned layer is proved faster or not, and no slower is not enough.
    """

    backend: str
    layer: Layer
    candidate: ConvProblem
    side: Side = Side.OUT
    telling: int = 0
    policies: tuple[str, str] = ("", "")
    label: str = ""
    paired: bool = False
    asks_whether_faster: bool = False

    whole = False

    @property
    def reference(self) -> ConvProblem:
        """Return the unpruned layer's problem."""
        return self.layer.problem

    @property
    def against_itself(self) -> bool:
        """Return whether this compares the unpruned layer with itself."""
        return self.candidate == self.reference and self.policies[0] == self.policies[1]

    @property
    def asks_whether_slower(self) -> bool:
        """Return whether this compares a pruned layer with its unpruned self, both by the backend's default policy."""
        return not self.against_itself and not self.studied

    @property
    def studied(self) -> bool:
        """Return whether this belongs to a study of policies instead of asking how pruned layers do by default."""
        return any(self.policies)

    @property
    def subjects(self) -> tuple[Subject, Subject]:
        """Return (reference, candidate), each with its policy."""
        return Subject(self.reference, self.policies[0]), Subject(self.candidate, self.policies[1])

    @property
    def keys(self) -> tuple[str, str]:
        """Return the keys of (reference, candidate), by which a worker is asked for them."""
        reference, candidate = self.subjects
        return reference.key, candidate.key

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that name this in a journal: the id, and the keys of both subjects."""
        reference, candidate = self.keys
        return {"id": self.id, "reference": reference, "candidate": candidate}

    @property
    def tuned_logs(self) -> list[TunedLog]:
        """Return the logs of searches that must exist before this can be measured."""
        return [log for policy in self.policies if (log := TunedLog.parse(policy))]

    @property
    def distance(self) -> int:
        """Return the number of channels removed; of a pruned model it may be less than none."""
        return self.reference.channels(self.side) - self.candidate.channels(self.side)

    @property
    def channels(self) -> str:
        """Return such as `226 of 256 output channels`, `113 of 128 output and 57 of 64 input channels`."""
        output, inputs = self._kept(Side.OUT), self._kept(Side.IN)
        if self.side is Side.TOGETHER:
            return f"{output} output and {inputs} input channels"
        return f"{inputs} input channels" if self.side is Side.IN else f"{output} output channels"

    @property
    def counts(self) -> str:
        """Return such as `226 of 256`, and with the sides where both lost channels."""
        return self.channels if self.side is Side.TOGETHER else self._kept(self.side)

    def _kept(self, side: Side) -> str:
        whole, part = self.reference.channels(side), self.candidate.channels(side)
        return f"{part} of {whole}" if part <= whole else f"{part} instead of {whole}"

    @property
    def grown(self) -> bool:
        """Return whether a pruned model has more channels here than its original, on either side."""
        return any(self.candidate.channels(side) > self.reference.channels(side) for side in (Side.OUT, Side.IN))

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return (backend, reference, candidate), which is equal for comparisons that need measuring only once."""
        return self.backend, *self.keys

    @property
    def id(self) -> str:
        """Return the readable name used in test ids: `onednn-resnet50.L16-float32-NCHW-out127`.

        An epilogue is behind the layout: `…-NCHW-bias+relu-out127`.
        """
        kept = self.candidate.channels(self.side)
        label = f"-{self.label}" if self.label else ""
        epilogue = f"-{self.candidate.epilogue}" if self.candidate.epilogue else ""
        problem = f"{self.layer.name}-{self.candidate.dtype}-{self.candidate.layout}{epilogue}"
        return f"{self.backend}-{problem}-{self.side}{kept}{label}"


def pruning_distances(problem: ConvProblem, side: Side) -> list[tuple[int, int]]:
    """Return (distance, telling rank) of the standard distances and shares at which a layer can be pruned, ascending.

    Where groups allow only multiples of a number, a distance is rounded up to the next one. The most telling distances
    come first in rank: the paper's 12 %, every second standard distance, the others, then the larger shares.
    """
    channels, step = problem.channels(side), problem.prune_step(side)
    shares = [int(channels * share) for share in SHARES]
    # Every second distance first, so that a run that ends early has seen the whole range.
    ranked = [shares[0], *STANDARD_DISTANCES[::2], *STANDARD_DISTANCES[1::2], *shares[1:]]
    ranks: dict[int, int] = {}
    for rank, wanted in enumerate(ranked, start=1):
        distance = -(-wanted // step) * step
        if problem.can_prune(distance, side):
            ranks.setdefault(distance, rank)
    return sorted(ranks.items())


PADDED_TO = (8, 32, 64)
"""Multiples to which padding is tried, since vector units and the tiles of libraries are made for them."""


def padded_selves(comparison: Comparison) -> list[ConvProblem]:
    """Return the pruned layer padded to the next multiple of each size in PADDED_TO, and to the unpruned layer.

    Where both sides lost channels, each is padded. The one with the fewest channels comes first.
    """
    whole, part, side = comparison.reference, comparison.candidate, comparison.side
    if comparison.grown:  # Nothing was taken away that padding could give back.
        return []
    padded = dict.fromkeys([*(_padded(whole, part, side, size) for size in PADDED_TO), whole])
    return sorted(
        (problem for problem in padded if problem and problem != part),
        key=lambda problem: (problem.channels(side), problem.in_channels),
    )


def _padded(whole: ConvProblem, part: ConvProblem, side: Side, size: int) -> ConvProblem | None:
    """Return a pruned layer padded to multiples of a size, at most to `whole`; None where its groups do not allow that.

    A count that is a multiple already goes to the next one, for padding must add something.
    """
    count = min(whole.channels(side), -(-(part.channels(side) + 1) // size) * size)
    if part.groups != whole.groups:  # Whole groups went, and whole groups come back.
        distance = whole.channels(side) - count
        return whole.prune(distance, side) if distance and whole.can_prune(distance, side) else None
    inputs = count if side is Side.IN else part.in_channels
    outputs = part.out_channels if side is Side.IN else count
    if side is Side.TOGETHER:
        inputs = min(whole.in_channels, -(-part.in_channels // size) * size)
    if inputs % part.groups or outputs % part.groups:
        return None
    return replace(part, in_channels=inputs, out_channels=outputs)
