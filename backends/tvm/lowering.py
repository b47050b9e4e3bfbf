"""Compile for a GPU and keep what TVM lowered on the way: its kernels, in the order of the calls, and their source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backends.tvm.api import Api


class Lowering:
    """TVM's own passes for a GPU, by the name `pipeline`, which also show what they lowered last (`program`)."""

    def __init__(self, api: Api, pipeline: str) -> None:
        self._api, self.pipeline = api, pipeline
        self.program: Any = None
        api.tvm.tirx.register_tir_pipeline(pipeline, self._passes)

    def _passes(self) -> tuple[Callable[[Any], Any], Any, Any]:
        lower, host, device = self._api.tvm.tirx.get_tir_pipeline("default")

        def lowered(module: Any) -> Any:
            self.program = lower(module)
            return self.program

        return lowered, host, device

    def kernels(self, kind: str) -> dict[str, Any]:
        """Return the device functions for one kind of target, by name."""
        return {
            str(name.name_hint): function
            for name, function in self.program.functions.items()
            if str(function.attrs["target"].kind.name) == kind
        }


def kernels_of(function: str, kernels: Mapping[str, Any]) -> list[str]:
    """Return the kernels that a loop function was split into, in order: `conv2d_kernel`, `conv2d_kernel_1`, …"""
    mine = [name for name in kernels if re.fullmatch(rf"{re.escape(function)}_kernel(_\d+)?", name)]
    return sorted(mine, key=_number)


def _number(kernel: str) -> int:
    """Return the place of a kernel among those of its function."""
    return int(kernel.rpartition("_kernel")[2].lstrip("_") or 0)


def sources(module: Any, kind: str, language: str) -> Iterator[str]:
    """Yield the source of one kind of module among a compiled one and those that it imports."""
    if str(module.kind) == kind:
        yield str(module.inspect_source(language))
    for imported in module.imports:
        yield from sources(imported, kind, language)
