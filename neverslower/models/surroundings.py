"""What a user's network finds and changes in a process that it shares: Python's modules and path, torch's settings.

Two networks and many layers are timed in one process. Each network gets what its own Python has imported and set, for
its own calls, as if it were alone there; layers and the other network get none of it.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

Setting = tuple[Callable[[], Any], Callable[[Any], object]]
"""How a setting is read, and how it is made."""
_OF_BACKENDS = {
    "mkldnn": ("enabled", "deterministic", "allow_tf32", "fp32_precision"),
    "mkldnn.conv": ("fp32_precision",),
    "mkldnn.matmul": ("fp32_precision",),
    "nnpack": ("enabled",),
    "cudnn": ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32", "fp32_precision"),
    "cudnn.conv": ("fp32_precision",),
    "cuda.matmul": (
        "allow_tf32",
        "allow_fp16_accumulation",
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "fp32_precision",
    ),
}
"""Settings in torch.backends that change how long a layer takes; those that a torch does not have are passed over."""
_OF_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")


class Surroundings:
    """What one network has imported and set; `folder` is that of its file, None where it has no file."""

    def __init__(self, torch: Any, folder: Path | None) -> None:
        self._settings, self._folder = settings(torch), folder
        self._modules: dict[str, ModuleType] = {}
        self._path: list[str] | None = None
        self._own: dict[str, Any] = {}

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Give the network what is its own, keep what it adds and changes meanwhile, and leave all as it was."""
        modules, path, values = dict(sys.modules), list(sys.path), read(self._settings)
        sys.modules.update(self._modules)
        sys.path[:] = path if self._path is None else self._path
        _set(self._settings, self._own)
        try:
            yield
        finally:
            now = read(self._settings)
            self._own = {name: value for name, value in now.items() if value != values.get(name)}
            _set(self._settings, values)
            self._path = list(sys.path)
            sys.path[:] = path
            self._modules = self._taken_out(modules, set(self._path) - set(path))

    def _taken_out(self, before: Mapping[str, ModuleType], added: Iterable[str]) -> dict[str, ModuleType]:
        """Return the modules from the network's own folders, and leave sys.modules without them.

        The other network's file may have neighbours of the same names, and would be given these: the original would be
        compared with itself.
        """
        if sys.modules == before:
            return {}
        folders = {Path(folder).resolve() for folder in added} | ({self._folder} if self._folder else set())
        new = {name: module for name, module in sys.modules.items() if before.get(name) is not module}
        own = {name for name, module in new.items() if "." not in name and _lies_in(module, folders)}
        taken = {name: module for name, module in new.items() if name.partition(".")[0] in own}
        for name in taken:
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]
        return taken


def _lies_in(module: ModuleType, folders: set[Path]) -> bool:
    """Return whether a module is a file in one of some folders, or a package there; what is installed below is not."""
    places = [Path(place).resolve() for place in getattr(module, "__path__", ())]
    if file := getattr(module, "__file__", None):
        places.append(Path(file).resolve())
    return any(place.parent in folders for place in places)


def settings(torch: Any) -> dict[str, Setting]:
    """Return torch's settings for the whole process that change how long a layer takes, by name."""
    found: dict[str, Setting] = {
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "default device": (lambda: str(torch.get_default_device()), partial(_set_default_device, torch)),
        "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
        "deterministic": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
        # No torch says whether it flushes them; arithmetic does.
        "flush denormal": (lambda: sys.float_info.min / 2 == 0, torch.set_flush_denormal),
    }
    cuda = torch.backends.cuda
    for kind in _OF_ATTENTION:
        if hasattr(cuda, f"{kind}_sdp_enabled"):
            found[f"{kind} attention"] = getattr(cuda, f"{kind}_sdp_enabled"), getattr(cuda, f"enable_{kind}_sdp")
    for place, names in _OF_BACKENDS.items():
        with contextlib.suppress(AttributeError):  # This torch has no such place.
            owner = attrgetter(place)(torch.backends)
            found |= {
                f"{place}.{name}": (partial(getattr, owner, name), partial(setattr, owner, name)) for name in names
            }
    return found


def _set_default_device(torch: Any, device: str) -> None:
    torch.set_default_device(None if device == "cpu" else device)  # To name the CPU would slow each call down.


def read(found: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the values of settings by name; those that this torch does not have, or does not tell, are left out."""
    values = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (get, _) in found.items():
            with contextlib.suppress(AttributeError, RuntimeError):
                values[name] = get()
    return values


def _set(settings: Mapping[str, Setting], values: Mapping[str, Any]) -> None:
    """Make those settings that have other values now; one by one, for some of torch's change others too."""
    if all(read({name: settings[name]}) == {name: value} for name, value in values.items()):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in values.items():
            if read({name: settings[name]}) != {name: value}:
                with contextlib.suppress(AttributeError, RuntimeError):
                    settings[name][1](value)
