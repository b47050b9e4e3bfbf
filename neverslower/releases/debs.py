"""Gets a Debian package and what it needs, unpacks them into a root of their own, and keeps that; installs nothing.

apt is asked, with this machine's own mirrors and keys, but with a state of its own: this system's lists of packages
stay as they are, and nothing that is installed here counts as there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neverslower.errors import ReleaseError, Unreachable
from neverslower.files.kept import default_root
from neverslower.releases.asking import kept_releases
from neverslower.releases.environments import Report, megabytes
from neverslower.releases.spec import DebRelease

_URI = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+) (?P<size>\d+) (?P<digest>\S*)")
_NO_NETWORK = re.compile(
    r"Temporary failure resolving|Could not resolve|Could not connect|Connection (?:refused|failed)"
)
TOOLS = ("apt-get", "dpkg-deb")


@dataclass(frozen=True)
class DebFile:
    """One package's file, as apt would download it; `size` is in bytes."""

    url: str
    file: str
    size: int
    digest: str


def files_of(printed: str) -> list[DebFile]:
    """Read what `apt-get install --print-uris` prints."""
    matches = map(_URI.fullmatch, (line.strip() for line in printed.splitlines()))
    return [DebFile(match["url"], match["file"], int(match["size"]), match["digest"]) for match in matches if match]


def sources_of(configured: str, suite: str, architecture: str) -> str:
    """Return apt's list of sources: the mirrors that this machine has (`apt-get indextargets`), in one other suite.

    `configured` has a line for each index: URI, component and the file of keys, separated by tabs.
    """
    lines: dict[str, None] = {}
    for line in configured.splitlines():
        uri, component, keys = [*line.split("\t"), "", ""][:3]
        if "security" in uri:  # Its suites have names of their own.
            continue
        signed = f" signed-by={keys}" if keys.startswith("/") else ""
        lines[f"deb [arch={architecture}{signed}] {uri} {suite} {component}\n"] = None
    return "".join(lines)


def root_of(release: DebRelease, report: Report) -> Path:
    """Return the folder into which a package and its dependencies were unpacked, made now unless it is kept.

    Says how large the download is before it begins. Raises Unreachable or ReleaseError.
    """
    if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise ReleaseError(f"{release}: {' and '.join(lacking)} is not there; unpack the package, and name root:FOLDER")
    apt = _Apt(release)
    try:
        apt.update()
    except Unreachable:
        if not apt.known:
            raise
        report(f"{release}: no mirror can be reached; going by what it had before")
    needed = apt.needed()
    store = kept_releases()
    digests = "\n".join(sorted(f"{one.file} {one.digest}" for one in needed))
    fields = {"kind": "root", "asked": str(release), "debs": digests}
    if folder := store.find(fields):
        return folder
    total = megabytes(sum(one.size for one in needed))
    report(f"{release}: {len(needed)} package{'s' * (len(needed) != 1)}, {total} to download")
    return store.add(fields, lambda folder: apt.unpack(folder, needed))


def merge_usr(root: Path) -> None:
    """Make `lib` a link to `usr/lib`, as it is in an installed Debian: a program's loader is asked for in `lib`."""
    own, merged = root / "lib", root / "usr" / "lib"
    if own.is_dir() and not own.is_symlink():
        shutil.copytree(own, merged, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(own)
    if merged.is_dir() and not own.exists():
        own.symlink_to("usr/lib")


class _Apt:
    """apt with a state of its own, for one release."""

    def __init__(self, release: DebRelease) -> None:
        self._release = release
        self._home = default_root() / "apt" / f"{release.architecture}-{release.suite or 'here'}"
        self._options = [
            f"-oDir::State={self._home / 'state'}",
            f"-oDir::State::status={self._home / 'status'}",
            f"-oDir::Cache={self._home / 'cache'}",
            f"-oAPT::Architecture={release.architecture}",
            f"-oAPT::Architectures::={release.architecture}",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Install-Recommends=false",
            "-oDebug::NoLocking=1",
            "-qq",
        ]

    @property
    def known(self) -> bool:
        """Return whether an index was read before."""
        return any((self._home / "state" / "lists").glob("*_Packages*"))

    def update(self) -> None:
        """Read the index of the suite. Raises Unreachable or ReleaseError."""
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()
        if self._release.suite:
            format_ = "$(REPO_URI)\t$(COMPONENT)\t$(SIGNED_BY)"
            configured = self._run(["apt-get", "indextargets", "--format", format_, "Identifier: Packages"])
            listed = self._home / "sources.list"
            listed.write_text(sources_of(configured, self._release.suite, self._release.architecture), encoding="utf-8")
            self._options += [f"-oDir::Etc::sourcelist={listed}", "-oDir::Etc::sourceparts=-"]
        self._run(["apt-get", *self._options, "-oAPT::Update::Error-Mode=any", "update"])

    def needed(self) -> list[DebFile]:
        """Return the files of the package and of all that it depends on. Raises ReleaseError."""
        files = files_of(self._run(["apt-get", *self._options, "--print-uris", "--yes", "install", self._package]))
        if not files:
            raise ReleaseError(f"{self._release}: apt names no file for it; name another suite or version")
        return files

    @property
    def _package(self) -> str:
        version = f"={self._release.version}" if self._release.version else ""
        return f"{self._release.name}:{self._release.architecture}{version}"

    def unpack(self, folder: Path, needed: Sequence[DebFile]) -> None:
        """Download the files, whose digests apt checks, and unpack them. Raises Unreachable or ReleaseError."""
        self._run(["apt-get", *self._options, "--download-only", "--yes", "install", self._package])
        for one in needed:
            archive = self._home / "cache" / "archives" / one.file
            self._run(["dpkg-deb", "--extract", str(archive), str(folder)])
        merge_usr(folder)
        self._run(["apt-get", *self._options, "clean"])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if _NO_NETWORK.search(done.stderr):
            raise Unreachable(f"{self._release}: no mirror of Debian's packages can be reached; connect this machine")
        words = [line for line in done.stderr.splitlines() if line.startswith("E:")] or [shlex.join(command)]
        raise ReleaseError(f"{self._release}: {words[0].removeprefix('E: ')}")
