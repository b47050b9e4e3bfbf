"""What the text of `--backend tvm:TEXT` chooses: a database for this CPU, an NVIDIA GPU, a GPU whose dispatch is shown,
or a board.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from backends.gpu import CACHES, HOT

GPUS = ("mali", "adreno")
"""The GPUs that TVM has OpenCL targets for, by the names that it gives them."""


@dataclass(frozen=True)
class Tracker:
    """The address of an RPC tracker, and the key of the boards that are wanted of it."""

    host: str
    port: int
    key: str

    @classmethod
    def parse(cls, text: str) -> Tracker:
        """Read `HOST:PORT,key=KEY`. Raises ValueError."""
        match = re.fullmatch(r"(.+):(\d+),key=([^,\s]+)", text)
        if not match or not 0 < int(match[2]) < 65536:
            raise ValueError(f"{text!r} is no tracker with a key; write rpc=HOST:PORT,key=KEY (a folder: ./rpc=…)")
        return cls(match[1], int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def board(self) -> str:
        """Return what messages call a board of this key."""
        return f"the board {self.key!r} at {self}"


@dataclass(frozen=True)
class OnCuda:
    """Which NVIDIA GPU is measured, whether calls find their tensors in its L2 cache, and the folder of a database."""

    gpu: int = 0
    cache: str = HOT
    database: str = ""

    @classmethod
    def parse(cls, text: str) -> OnCuda:
        """Read words that are joined by commas; what follows `database=` is all a folder. Raises ValueError."""
        words, named, database = text.partition("database=")
        if named and not database:
            raise ValueError("database= names no folder; write cuda,database=FOLDER")
        choice = cls(database=database)
        for word in filter(None, words.split(",")):
            if word in CACHES:
                choice = replace(choice, cache=word)
            elif match := re.fullmatch(r"gpu=(\d{1,3})", word):
                choice = replace(choice, gpu=int(match[1]))
            else:
                known = ", ".join([*CACHES, "gpu=N", "database=FOLDER"])
                raise ValueError(
                    f"{word!r} is not one of {known}; several are joined by commas, as in tvm:cuda,cold,gpu=1 "
                    "(a folder of that name: ./cuda)"
                )
        return choice


@dataclass(frozen=True)
class TvmOptions:
    """What the text asks for, one of four, or none of them.

    `database` is a folder; `cuda` is an NVIDIA GPU; `gpu` names a GPU that is not there; `tracker` is where a board is
    asked for.
    """

    database: str = ""
    cuda: OnCuda | None = None
    gpu: str = ""
    tracker: Tracker | None = None

    @classmethod
    def parse(cls, text: str) -> TvmOptions:
        """Read the text. Raises ValueError that names what is wrong in it."""
        if text.startswith("rpc="):
            return cls(tracker=Tracker.parse(text.removeprefix("rpc=")))
        kind, _, gpu = text.partition(",")
        if kind == "cuda":
            return cls(cuda=OnCuda.parse(gpu))
        if kind != "opencl":
            return cls(database=text)
        if gpu not in GPUS:
            raise ValueError(
                f"{gpu!r} is not a GPU that TVM has an OpenCL target for; give opencl,{' or opencl,'.join(GPUS)} "
                "(a folder of that name: ./opencl)"
            )
        return cls(gpu=gpu)
