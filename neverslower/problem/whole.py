"""Whole networks: what a worker is asked to run from end to end, and a pruned network compared with its original.

A network is named by the Python that builds it, for it holds far more than its convolutions. Its key also holds a
digest of what was read in it, so that a network that was changed is another one to a journal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from urllib.parse import quote, unquote

from neverslower.errors import InvalidProblem
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.model import Model

_MARK = "network:"
_READABLE = "/:._=-"
"""Signs that a key holds as they are; it must hold neither a space nor what separates its parts."""


@dataclass(frozen=True)
class Network:
    """A whole network: the callable that builds it, its inputs, what was read in it, and in which format it runs.

    `builder` is FILE.py:CALLABLE or package.module:callable. The path is relative to the directory of the run where
    the file lies below it, so that a journal can be shared; else it is absolute. `inputs` are shapes as --input takes
    them. `structure` is a digest of its layers, operations and Python. `macs` is 0 where it is not known, as in one
    read from a key.
    """

    builder: str
    inputs: tuple[str, ...]
    structure: str = ""
    dtype: DType = DType.FLOAT32
    layout: Layout = Layout.NCHW
    macs: int = field(default=0, compare=False)

    bytes = 0
    """A network is timed next to none of the layers, whose tensors are counted so as to share the memory."""

    def found_from(self, directory: str) -> Network:
        """Return this network by the path that leads to it from a directory, which is that of the run."""
        if not directory or not self.builder.rpartition(":")[0].endswith(".py"):
            return self
        return replace(self, builder=str(PurePath(directory, self.builder)))

    @property
    def key(self) -> str:
        """Return a stable name that `from_key` reads: `network:pruned.py:build!1x3x224x224!DIGEST-float32-NCHW`."""
        builder, *inputs = (quote(text, safe=_READABLE) for text in (self.builder, *self.inputs))
        return f"{_MARK}{builder}!{'+'.join(inputs)}!{self.structure}-{self.dtype}-{self.layout}"

    @classmethod
    def from_key(cls, key: str) -> Network:
        """Return the network that a `key` names. Raises InvalidProblem for any other text."""
        try:
            named, dtype, layout = key.removeprefix(_MARK).rsplit("-", 2)
            builder, inputs, structure = named.split("!")
            shapes = tuple(unquote(text) for text in inputs.split("+") if text)
            network = cls(unquote(builder), shapes, structure, DType(dtype), Layout(layout))
        except ValueError:
            raise InvalidProblem(f"{key!r} is not the key of a network") from None
        if network.key != key:
            raise InvalidProblem(f"{key!r} is not the key of a network")
        return network

    def __str__(self) -> str:
        return f"{self.builder} {', '.join(self.inputs)} {self.dtype} {self.layout}"


def is_network(key: str) -> bool:
    """Return whether a subject's key names a whole network."""
    return key.startswith(_MARK)


def structure_of(model: Model) -> str:
    """Return a digest of what was read in a model: its layers, what is left out of it, its operations, its Python."""
    record = {name: value for name, value in model.record().items() if name in ("layers", "left_out")}
    record["digest"] = model.digest
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class WholeComparison:
    """A pruned network against its original, both from end to end on one backend.

    `name` is the original's, and `options` are the words of a command that name both models and their inputs.
    """

    backend: str
    name: str
    reference: Network
    candidate: Network
    options: tuple[str, ...] = ()
    batch: int | None = None

    whole = True
    studied = against_itself = asks_whether_faster = False
    telling = 0
    tuned_logs = ()

    @property
    def keys(self) -> tuple[str, str]:
        """Return the keys of (original, pruned network), by which a worker is asked for them."""
        return self.reference.key, self.candidate.key

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return (backend, original, pruned network)."""
        return self.backend, *self.keys

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that name this in a journal: the id, and the keys of both networks."""
        reference, candidate = self.keys
        return {"id": self.id, "reference": reference, "candidate": candidate}

    @property
    def title(self) -> str:
        """Return the original's name, with the number of images where the user chose one: `resnet18@8`."""
        return f"{self.name}@{self.batch}" if self.batch else self.name

    @property
    def id(self) -> str:
        """Return the readable name used in test ids: `onednn-resnet18-whole-float32-NCHW`."""
        return f"{self.backend}-{self.title}-whole-{self.candidate.dtype}-{self.candidate.layout}"
