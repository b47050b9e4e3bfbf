"""What the text of `--backend tvm:TEXT` chooses: a database for this CPU, a GPU whose dispatch is shown, or a board."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
class TvmOptions:
    """What the text asks for, one of three, or none of them.

    `database` is a folder; `gpu` names a GPU that is not there; `tracker` is where a board is asked for.
    """

    database: str = ""
    gpu: str = ""
    tracker: Tracker | None = None

    @classmethod
    def parse(cls, text: str) -> TvmOptions:
        """Read the text. Raises ValueError that names what is wrong in it."""
        if text.startswith("rpc="):
            return cls(tracker=Tracker.parse(text.removeprefix("rpc=")))
        kind, _, gpu = text.partition(",")
        if kind != "opencl":
            return cls(database=text)
        if gpu not in GPUS:
            raise ValueError(
                f"{gpu!r} is not a GPU that TVM has an OpenCL target for; give opencl,{' or opencl,'.join(GPUS)} "
                "(a folder of that name: ./opencl)"
            )
        return cls(gpu=gpu)
