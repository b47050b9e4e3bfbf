"""Asks the index that pip is configured for: which releases there are, what one needs, and how large that is.

Nothing but wheels is taken, so nothing is built.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from packaging.version import InvalidVersion, Version

from neverslower.errors import ReleaseError
from neverslower.releases.asking import pip

ASKED_AT_ONCE = 8
PATIENCE = 20.0
"""Seconds that an index may take to say how large one file is."""
_WHEELS_ONLY = ("--only-binary", ":all:")
_VERSIONS = re.compile(r"^Available versions: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Wheel:
    """One file of an index: `sha256` is empty and `size`, in bytes, None where the index does not say."""

    name: str
    version: str
    url: str
    sha256: str = ""
    size: int | None = None

    @property
    def pinned(self) -> str:
        """Return a line of a requirements file that installs exactly this."""
        return f"{self.name}=={self.version}{f' --hash=sha256:{self.sha256}' if self.sha256 else ''}"


def resolved(requirements: Sequence[str], asked: str, alone: bool = False) -> list[Wheel]:
    """Return the wheels that requirements come to, with their sizes; nothing is installed, and no wheel downloaded.

    `alone` leaves out what they depend on. Raises Unreachable or ReleaseError.
    """
    # What a wheel needs is read from its end where the index does not say it, which saves its download.
    options = ["--dry-run", "--use-feature=fast-deps", "--ignore-installed", "--quiet", "--report", "-", *_WHEELS_ONLY]
    options += ["--no-deps"] if alone else []
    found = [_wheel(one) for one in json.loads(pip(["install", *options, *requirements], asked))["install"]]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        sizes = list(pool.map(size_of, (wheel.url for wheel in found)))
    return [
        Wheel(wheel.name, wheel.version, wheel.url, wheel.sha256, size)
        for wheel, size in zip(found, sizes, strict=True)
    ]


def _wheel(line: dict[str, Any]) -> Wheel:
    """Read one installation of pip's report (its format 1)."""
    metadata, download = line["metadata"], line["download_info"]
    archive = download.get("archive_info", {})
    sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
    return Wheel(metadata["name"], metadata["version"], download["url"], sha256)


def size_of(url: str) -> int | None:
    """Return the bytes of a file by its URL, None where the server does not say."""
    if url.startswith("file:"):
        path = Path(urllib.request.url2pathname(urlparse(url).path))
        return path.stat().st_size if path.is_file() else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE) as answer:
            length = answer.headers.get("Content-Length")
    except (OSError, ValueError):
        return None
    return int(length) if length and length.isdigit() else None


def install(wheels: Sequence[Wheel], folder: Path, python: Path, asked: str) -> None:
    """Install exactly these wheels into the environment of a Python; `folder` takes the list of them.

    Raises Unreachable or ReleaseError.
    """
    listed = folder / "wheels.txt"
    listed.write_text("".join(f"{wheel.pinned}\n" for wheel in wheels), encoding="utf-8")
    hashes = ["--require-hashes"] if all(wheel.sha256 for wheel in wheels) else []
    pip(["install", "--quiet", "--no-deps", "--no-compile", *_WHEELS_ONLY, *hashes, "-r", str(listed)], asked, python)


def versions(name: str) -> list[Version]:
    """Return the releases of a package that have a wheel for this Python and machine, the oldest first.

    Releases that are not final are left out. Raises Unreachable or ReleaseError.
    """
    printed = pip(["index", "versions", name, *_WHEELS_ONLY], f"pip:{name}")
    listed = _VERSIONS.search(printed)
    if not listed:
        raise ReleaseError(f"pip:{name}: pip lists no versions ({printed.strip()[:100]!r}); name them with --between")
    return sorted(filter(None, map(_version, listed[1].split(","))))


def _version(text: str) -> Version | None:
    try:
        version = Version(text.strip())
    except InvalidVersion:
        return None
    return None if version.is_prerelease else version
