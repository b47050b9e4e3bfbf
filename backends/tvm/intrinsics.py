"""Import TVM's tensor intrinsics, which rules for newer CPUs and for tensor cores look up by name, in little time."""

from __future__ import annotations

import inspect
import sys

from backends.tvm.api import without_torch


def import_intrinsics() -> None:
    """Import them all, once.

    Each of their 500 functions asks `inspect.stack` for the source lines of every frame and uses none, for 26 seconds.
    """
    original = inspect.stack
    inspect.stack = _stack
    try:
        with without_torch():
            __import__("tvm.s_tir.tensor_intrin")
    finally:
        inspect.stack = original


def _stack(context: int = 1) -> list[inspect.FrameInfo]:
    """Return what `inspect.stack` does, without source lines."""
    frame = sys._getframe(1)
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back  # type: ignore[assignment]
    return frames
