"""Compile the CUDA sources of several programs side by side: NVRTC takes most of the time of a build, on one core."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from neverslower.device.readers import limits

CALLBACK = "tvm_callback_cuda_compile"
"""The function that TVM calls with a CUDA source, and that returns machine code."""
Compile = Callable[[str], Any]


@contextlib.contextmanager
def compiled_together(target: Any, builds: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Make every build once to see its source, compile all of these, and serve them when they are asked for within.

    TVM itself is called from this thread alone: parts of it are not made for several.
    """
    ffi = importlib.import_module("tvm_ffi")
    compile_source: Compile = ffi.get_global_func(CALLBACK)
    with ThreadPoolExecutor(limits.cores()) as threads:
        known: dict[str, Future[Any]] = {}

        def note(source: str) -> bytes:
            if source not in known:
                known[source] = threads.submit(_within, target, compile_source, source)
            return b""

        def serve(source: str) -> Any:
            return known[source].result() if source in known else compile_source(source)

        try:
            ffi.register_global_func(CALLBACK, note, override=True)
            for build in builds:
                with contextlib.suppress(Exception):  # It fails again, and is heard, when it is built in earnest.
                    build()
            ffi.register_global_func(CALLBACK, serve, override=True)
            yield
        finally:
            ffi.register_global_func(CALLBACK, compile_source, override=True)


def _within(target: Any, compile_source: Compile, source: str) -> Any:
    """Compile for a target, which TVM keeps for each thread."""
    with target:
        return compile_source(source)
