"""Makes an environment of wheels, and keeps it: by what is in it, and within a bound on all of them.

A library with a Python package of its own gets a whole environment. One that others load, such as cuDNN, is laid over
this Python's own packages: an environment that holds it alone and finds the rest where this Python finds it.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import site
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.utils import canonicalize_name

from neverslower.errors import ReleaseError, Unreachable
from neverslower.files.kept import KeptTrees
from neverslower.releases import wheels
from neverslower.releases.asking import kept_releases
from neverslower.releases.spec import PipRelease
from neverslower.releases.wheels import Wheel

UNPACKED = 3.0
"""How much more room an environment takes than the wheels that it is made of, at most, about."""
NEEDED = "numpy"
"""What a worker needs in addition to its library."""
LARGEST = 3
"""So many of the largest wheels a line names."""
Report = Callable[[str], None]


class Environment:
    """A kept environment: its folder, and what it was made of."""

    def __init__(self, folder: Path, fields: Mapping[str, str]) -> None:
        self.folder, self.fields = folder, fields

    @property
    def versions(self) -> dict[str, str]:
        """Return the version of each package in it, by normalised name."""
        pairs = (line.split(" ")[0].split("==") for line in self.fields["wheels"].splitlines())
        return {canonicalize_name(name): number for name, number in pairs}

    @property
    def execnet(self) -> str:
        """Return the execnet spec of a worker in it."""
        python = f"popen//python={shlex.quote(str(self.folder / 'bin' / 'python'))}"
        if not self.fields["overlay"]:
            return python
        libraries = self._libraries()
        # What torch was linked with lies where torch says (its RPATH), before any loader path: so the libraries that
        # programs name are loaded first of all. Those that they load in turn are found next to them.
        named = [str(path) for folder in libraries for path in sorted(folder.glob("lib*.so.*")) if _is_named(path)]
        return f"{python}//env:LD_LIBRARY_PATH={':'.join(map(str, libraries))}//env:LD_PRELOAD={':'.join(named)}"

    def _libraries(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("lib/python*/site-packages/nvidia/*/lib") if path.is_dir())


def _is_named(path: Path) -> bool:
    """Return whether programs are linked with a library of NVIDIA's: the one named as its package, libcudnn.so.9."""
    return path.name.split(".")[0] == f"lib{path.parent.parent.name}"


def environment(release: PipRelease, companions: Sequence[str], report: Report) -> Environment:
    """Return the environment of a release, made now unless it is kept; `companions` are known to go with it.

    Says how large the download is before it begins. Where no index can be reached, or none has it any more, one that
    was made of the same words is used, and said to be. Raises ReleaseError.
    """
    store, asked = kept_releases(), str(release)
    wanted = [*map(str, release.requirements), *_not_named(release, companions)]
    try:
        found = _resolved(release, wanted, asked)
    except ReleaseError as error:
        if kept := _as_before(store, wanted, release.overlay):
            why = str(error).partition("; ")[0]
            report(f"{why}; using what was made of it before, in {kept.folder}")
            return kept
        raise
    fields = _fields(wanted, found, release.overlay)
    if folder := store.find(fields):
        return Environment(folder, fields)
    report(f"{asked}: {told(found)}")
    _require_room(store, found, asked)
    return Environment(store.add(fields, lambda folder: _make(folder, found, release.overlay, asked)), fields)


def _not_named(release: PipRelease, companions: Iterable[str]) -> list[str]:
    """Return those companions, requirements such as `name==1`, whose package the user does not name."""
    named = {canonicalize_name(requirement.name) for requirement in release.requirements}
    return [one for one in companions if canonicalize_name(one.partition("==")[0]) not in named]


def _resolved(release: PipRelease, wanted: Sequence[str], asked: str) -> list[Wheel]:
    """Return the wheels of a release; with this Python's own numpy where that goes with it, so that less differs."""
    if release.overlay:
        return wheels.resolved(wanted, asked, alone=True)
    if any(canonicalize_name(requirement.name) == NEEDED for requirement in release.requirements):
        return wheels.resolved(wanted, asked)
    try:
        return wheels.resolved([*wanted, f"{NEEDED}=={version(NEEDED)}"], asked)
    except Unreachable:
        raise
    except (ReleaseError, PackageNotFoundError):
        return wheels.resolved([*wanted, NEEDED], asked)


def _fields(wanted: Sequence[str], found: Sequence[Wheel], overlay: bool) -> dict[str, str]:
    """Return the key of an environment: the content of its wheels, and the Python that it is for."""
    lines = sorted(wheel.pinned if wheel.sha256 else f"{wheel.pinned} {wheel.url}" for wheel in found)
    return {
        "kind": "environment",
        "asked": " ".join(wanted),
        "wheels": "\n".join(lines),
        "overlay": _own_packages() if overlay else "",
        "python": f"{sys.implementation.name} {platform.python_version()} {platform.machine()} {_base()}",
    }


def _base() -> str:
    return str(Path(sys.base_prefix).resolve())


def _own_packages() -> str:
    """Return the folders in which this Python finds its packages, joined by colons."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    paths += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return ":".join(dict.fromkeys(paths))


def _as_before(store: KeptTrees, wanted: Sequence[str], overlay: bool) -> Environment | None:
    """Return the environment that was last made of the same words for this Python, None where there is none."""
    alike = _fields(wanted, (), overlay)
    for entry in reversed(store.entries()):
        if all(entry.fields.get(name) == alike[name] for name in ("kind", "asked", "overlay", "python")):
            return Environment(entry.path, entry.fields)
    return None


def told(found: Sequence[Wheel]) -> str:
    """Return how much there is to download, and which wheels are the largest."""
    known = sorted((wheel for wheel in found if wheel.size is not None), key=lambda wheel: -(wheel.size or 0))
    unknown = len(found) - len(known)
    largest = ", ".join(f"{wheel.name} {wheel.version} {megabytes(wheel.size or 0)}" for wheel in known[:LARGEST])
    total = f"{len(found)} wheel{'s' * (len(found) != 1)}, {megabytes(total_size(found))} to download"
    without = f", and {unknown} whose size the index does not say" if unknown else ""
    return f"{total}{without}{f' (the largest: {largest})' if known else ''}"


def total_size(found: Iterable[Wheel]) -> int:
    """Return the bytes of those wheels whose size is known."""
    return sum(wheel.size or 0 for wheel in found)


def megabytes(size: float) -> str:
    """Return bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _require_room(store: KeptTrees, found: Sequence[Wheel], asked: str) -> None:
    place = next(path for path in (store.root, *store.root.parents) if path.is_dir())
    needed, free = UNPACKED * total_size(found), shutil.disk_usage(place).free
    if needed > free:
        lacking = f"about {megabytes(needed)} are needed and {megabytes(free)} are free in {place}"
        raise ReleaseError(f"{asked}: {lacking}; run `neverslower cache --clear`, or set XDG_CACHE_HOME")


def _make(folder: Path, found: Sequence[Wheel], overlay: bool, asked: str) -> None:
    """Make the environment in an empty folder, which may be renamed later: nothing in use names its path."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    wheels.install(found, folder, folder / "bin" / "python", asked)
    if overlay:
        (packages,) = folder.glob("lib/python*/site-packages")
        own = "".join(f"{path}\n" for path in _own_packages().split(":"))
        (packages / "_own_packages.pth").write_text(own, encoding="utf-8")
