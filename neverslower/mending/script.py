"""The Python that pads a user's model: it needs torch and the user's own code, and nothing of ours."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neverslower.models import padding
from neverslower.models.words import ModelName

_HEAD = '''"""{name}, padded: zeros widen {groups} of its groups of channels, so that it runs faster.

`build()` builds the model and pads it; `pad(model, ADDED)` pads one that is there already, such as one whose weights
were loaded. It computes what it computed before. `neverslower mend` wrote this; it needs torch and the model's code.
"""
'''
_BUILD = '''

ADDED = {added}
"""Channels that are added: by module and axis, (place, count) by the counts before padding."""


def original() -> Any:
    """Return what builds the model that is padded."""
    import importlib
{load}
    found: Any = module
    for part in {attribute!r}.split("."):
        found = getattr(found, part)
    return found


def build() -> Any:
    """Return the padded model."""
    import copy

    import torch

    found = original()
    return pad(copy.deepcopy(found) if isinstance(found, torch.nn.Module) else found(), ADDED)
'''
_FROM_MODULE = """
    module = importlib.import_module({module!r})"""
_FROM_FILE = """    import importlib.util
    import sys
    from pathlib import Path

    path = (Path(__file__).resolve().parent / {path!r}).resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # As for a script, so that it finds its neighbours.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)"""


def script_of(name: ModelName, folder: Path, groups: int, added: Mapping[str, Any]) -> str:
    """Return the text of a file in `folder` that pads the model which a name stands for.

    A file of the user is named by its path from there, so that both can be moved together.
    """
    if name.path:
        load = _FROM_FILE.format(path=Path(os.path.relpath(name.path, folder.resolve())).as_posix())
    else:
        load = _FROM_MODULE.format(module=name.module)
    lines = "".join(f"    {module!r}: {axes!r},\n" for module, axes in added.items())
    _, _, code = inspect.getsource(padding).split('"""', 2)
    build = _BUILD.format(added=f"{{\n{lines}}}", load=load, attribute=name.attribute)
    return f"{_HEAD.format(name=name.text, groups=groups)}\n{code.strip()}\n{build}"
