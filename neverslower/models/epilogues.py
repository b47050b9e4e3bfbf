"""What follows a convolution in a model's graph, and goes into the same call when the model is deployed.

That is a bias or a batch normalisation, which becomes one, then a residual that is added, then ReLU or SiLU. Each is
taken only where nothing else reads what it takes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from neverslower.problem.epilogue import Epilogue, PostOp


class Kind(Enum):
    """What an operation is, as far as it matters here; an ADD is of two tensors of one shape."""

    CONVOLUTION = auto()
    BIASED_CONVOLUTION = auto()
    NORMALISATION = auto()
    ADD = auto()
    RELU = auto()
    SILU = auto()
    SIGMOID = auto()
    PRODUCT = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Operation:
    """One operation of a graph, the tensors that it reads, and those that it makes, of which the first counts."""

    kind: Kind
    reads: tuple[str, ...]
    makes: tuple[str, ...]


class Graph:
    """Operations in the order in which they run, and the tensors that the model returns."""

    def __init__(self, operations: Sequence[Operation], returned: Iterable[str]) -> None:
        self._returned = set(returned)
        self._readers: dict[str, list[Operation]] = {}
        self._made_at: dict[str, int] = {}
        for index, operation in enumerate(operations):
            for name in operation.reads:
                self._readers.setdefault(name, []).append(operation)
            self._made_at |= dict.fromkeys(operation.makes, index)

    def epilogue(self, convolution: Operation) -> Epilogue:
        """Return what follows a convolution of this graph."""
        bias, current = convolution.kind is Kind.BIASED_CONVOLUTION, convolution.makes[0]
        steps: list[PostOp] = []
        if normalised := self._then(current, Kind.NORMALISATION):
            bias, current = True, normalised.makes[0]
        if (added := self._then(current, Kind.ADD)) and self._is_there(added, current, convolution):
            steps.append(PostOp.SUM)
            current = added.makes[0]
        if self._then(current, Kind.RELU):
            steps.append(PostOp.RELU)
        elif self._then(current, Kind.SILU) or self._is_gated_by_itself(current):
            steps.append(PostOp.SWISH)
        return Epilogue(bias, tuple(steps))

    def _readers_of(self, tensor: str) -> list[Operation]:
        """Return what reads a tensor, once for each time; nothing where the model returns it too."""
        return [] if tensor in self._returned else self._readers.get(tensor, [])

    def _then(self, tensor: str, kind: Kind) -> Operation | None:
        """Return the only reader of a tensor, if it is of that kind."""
        readers = self._readers_of(tensor)
        return readers[0] if len(readers) == 1 and readers[0].kind is kind else None

    def _is_there(self, added: Operation, current: str, convolution: Operation) -> bool:
        """Return whether the other tensor of a sum is made before the convolution runs, which could not add it else.

        Where two convolutions meet in one sum, the later one adds the output of the other.
        """
        (other,) = (name for name in added.reads if name != current)
        return self._made_at.get(other, -1) < self._made_at[convolution.makes[0]]

    def _is_gated_by_itself(self, tensor: str) -> bool:
        """Return whether a tensor is read by its product with its own sigmoid alone, which is SiLU in two parts."""
        readers = {reader.kind: reader for reader in self._readers_of(tensor)}
        if len(self._readers_of(tensor)) != 2 or set(readers) != {Kind.SIGMOID, Kind.PRODUCT}:
            return False
        gate = readers[Kind.SIGMOID].makes[0]
        return sorted(readers[Kind.PRODUCT].reads) == sorted((tensor, gate)) and bool(self._then(gate, Kind.PRODUCT))
