"""What the text of `--backend tvm:TEXT` chooses: a database for this CPU, or a GPU whose dispatch is shown."""

from __future__ import annotations

from dataclasses import dataclass

GPUS = ("mali", "adreno")
"""The GPUs that TVM has OpenCL targets for, by the names that it gives them."""


@dataclass(frozen=True)
class TvmOptions:
    """What the text asks for: `database` is a folder, or empty; `gpu` names a GPU that is not there, or is empty."""

    database: str = ""
    gpu: str = ""

    @classmethod
    def parse(cls, text: str) -> TvmOptions:
        """Read the text. Raises ValueError that names what is wrong in it."""
        kind, _, gpu = text.partition(",")
        if kind != "opencl":
            return cls(database=text)
        if gpu not in GPUS:
            raise ValueError(
                f"{gpu!r} is not a GPU that TVM has an OpenCL target for; give opencl,{' or opencl,'.join(GPUS)} "
                "(a folder of that name: ./opencl)"
            )
        return cls(gpu=gpu)
