"""Asks the index that pip is configured for: which releases there are, what one needs, and how large that is.

pip answers, so that the user's own configuration counts: index, proxy, certificates, credentials. Nothing but wheels is
taken, so nothing is built.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from packaging.version import InvalidVersion, Version

from neverslower.errors import ReleaseError, Unreachable

ASKED_AT_ONCE = 8
PATIENCE = 20.0
"""Seconds that an index may take to say how large one file is."""
_WHEELS_ONLY = ("--only-binary", ":all:")
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Connection refused"
    r"|Network is unreachable|No route to host|Temporary failure in name resolution|Max retries exceeded"
)
_HAS = re.compile(r"\(from versions: ([^)]*)\)")
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


def pip(arguments: Sequence[str], asked: str, python: Path | None = None) -> str:
    """Run pip and return what it printed, for this Python or for another one.

    Raises Unreachable where no index answered, and ReleaseError with pip's own words otherwise.
    """
    other = ["--python", str(python)] if python else []
    command = [sys.executable, "-m", "pip", *other, *arguments, "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise refusal(asked, done.stderr)
    return done.stdout


def refusal(asked: str, stderr: str) -> ReleaseError:
    """Return the error that pip's words amount to, in one line with the remedy."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.partition("ERROR: ")[2] for line in lines if line.startswith("ERROR: ")]
    if "No module named pip" in stderr:
        return ReleaseError(f"{asked}: this Python has no pip; `{sys.executable} -m ensurepip` brings it")
    if _NO_NETWORK.search(stderr):
        return Unreachable(f"{asked}: no index can be reached; connect this machine, or name an index in pip's files")
    if has := _HAS.search(stderr):
        listed = [] if has[1] == "none" else has[1].split(", ")
        there = f"it has {', '.join(listed[-LISTED:])}" if listed else "it has none"
        python = ".".join(map(str, sys.version_info[:2]))
        return ReleaseError(f"{asked}: the index has no such wheel for Python {python} on this machine; {there}")
    return ReleaseError(f"{asked}: pip refused: {(errors or lines or ['it gave no reason'])[-1]}")


LISTED = 12
"""The newest versions that a refusal lists."""


def resolved(requirements: Sequence[str], asked: str, alone: bool = False) -> list[Wheel]:
    """Return the wheels that requirements come to, with their sizes; nothing is installed, and no wheel downloaded.

    `alone` leaves out what they depend on. Raises Unreachable or ReleaseError.
    """
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", *_WHEELS_ONLY]
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
