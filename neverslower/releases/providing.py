"""Turns a release that the user names into a worker's spec: an environment, a root, or the place of a Python."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import backends
from backends.base import Capabilities
from neverslower.errors import ReleaseError
from neverslower.releases import debs
from neverslower.releases.environments import Report, environment
from neverslower.releases.spec import DebRelease, PipRelease, is_release, parse
from neverslower.worker.process import WorkerSpec

_BUILT: set[tuple[str, str]] = set()
"""What this process has built: a backend by name, against the library in a folder."""


def provided(spec: WorkerSpec, report: Report) -> WorkerSpec:
    """Return the spec of a worker that loads the release which stands in a spec's place; any other spec is as it was.

    Raises ReleaseError where the release can't be had, and what the adapter raises where it can't be built against.
    """
    if not is_release(spec.execnet):
        return spec
    adapter: Any = backends.load(spec.backend)
    release = parse("--against", spec.execnet)
    here = replace(spec, execnet="popen", named=spec.place)
    if isinstance(release, PipRelease):
        require_of_backend(adapter.CAPABILITIES, spec.backend, release)
        made = environment(release, companions(adapter, release), report)
        expected = release.library, made.versions[release.library]
        return replace(here, execnet=made.execnet, expected=expected)
    build = getattr(adapter, "BUILD", None)
    if not build:
        why = f"the backend {spec.backend} is built against no folder; {_measured_with(adapter.CAPABILITIES)}"
        raise ReleaseError(f"{release}: {why}; name a release as pip:NAME==VERSION, or a Python")
    folder = str(debs.root_of(release, report) if isinstance(release, DebRelease) else release.folder)
    if (spec.backend, folder) not in _BUILT:
        build.run({"root": folder}, report)
        _BUILT.add((spec.backend, folder))
    return replace(here, argument=",".join(filter(None, (spec.argument, f"root={folder}"))))


def require_of_backend(capabilities: Capabilities, backend: str, release: PipRelease) -> None:
    """Refuse wheels of another library before they are downloaded. Raises ReleaseError that names the right ones."""
    if release.library in _own(capabilities) or (
        release.overlay and _any_matches(release.library, capabilities.overlays)
    ):
        return
    why = _measured_with(capabilities)
    raise ReleaseError(f"{release}: {release.library} is no library of the backend {backend}; {why}")


def _measured_with(capabilities: Capabilities) -> str:
    known = ", ".join(sorted(_own(capabilities) | set(capabilities.overlays)))
    return f"it is measured with {known}" if known else "no wheels are known for it"


def _own(capabilities: Capabilities) -> set[str]:
    """Return the names of a backend's packages, normalised."""
    return {canonicalize_name(Requirement(text).name) for text in capabilities.packages or capabilities.modules}


def _any_matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name matches one of some patterns such as `nvidia-cudnn-*`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def companions(adapter: Any, release: PipRelease) -> Sequence[str]:
    """Return the requirements that an adapter knows to go with a release, such as `apache-tvm-ffi==0.1.12`."""
    if not hasattr(adapter, "companions") or release.version is None:
        return ()
    known: Sequence[str] = adapter.companions(release.library, str(release.version))
    return known
