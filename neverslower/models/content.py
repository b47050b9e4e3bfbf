"""What a network consists of beyond its layers, as text of which a digest is made: its operations and its Python."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def operations(program: Any) -> Iterator[str]:
    """Yield the operations of an exported program in the order in which they run, with arguments, shapes and dtypes."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if hasattr(module, "graph") else ():
            value = node.meta.get("val")
            result = f"{tuple(value.shape)} {value.dtype}" if hasattr(value, "dtype") else ""
            yield _ADDRESS.sub("", f"{node.name} = {node.op} {node.target} {node.args} {node.kwargs} {result}")


def sources(before: Collection[str]) -> Iterator[str]:
    """Yield what is in the files of the modules that were imported since, but for those that are installed.

    Where they lie is not part of it, nor is the name of a file that the user names.
    """
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    for name in sorted(set(sys.modules) - set(before)):
        file = getattr(sys.modules[name], "__file__", None)
        if file and not any(folder in Path(file).resolve().parents for folder in installed):
            yield hashlib.sha256(Path(file).read_bytes()).hexdigest()


def digest(texts: Iterable[str]) -> str:
    """Return a digest of texts in their order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
