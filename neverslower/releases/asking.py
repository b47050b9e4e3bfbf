"""Runs pip, so that the user's own configuration counts: index, proxy, certificates, credentials."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

from neverslower.errors import ReleaseError, Unreachable
from neverslower.files.kept import KeptTrees, default_root

FIRST_THAT_ASKS = Version("26.0")
"""The first pip that was seen to find out what wheels need without downloading them: 23.2 to 25.2 download all."""
LISTED = 12
"""The newest versions that a refusal lists."""
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Connection refused"
    r"|Network is unreachable|No route to host|Temporary failure in name resolution|Max retries exceeded"
)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|confirming the ssl certificate|SSLCertVerificationError")
_CREDENTIALS = re.compile(r"\b(?P<code>40[13]) (?:Client )?Error|HTTP error (?P<status>40[13])\b")
_HAS = re.compile(r"(?:satisfies the requirement (?P<what>\S+).*)?\(from versions: (?P<versions>[^)]*)\)")


def kept_releases() -> KeptTrees:
    """Return where releases are kept between runs."""
    return KeptTrees(default_root() / "releases")


def pip(arguments: Sequence[str], asked: str, python: Path | None = None) -> str:
    """Run pip and return what it printed, for this Python or for another one.

    Raises Unreachable where no index answered, and ReleaseError with pip's own words otherwise.
    """
    kept = kept_pip()
    variables = {"PYTHONPATH": str(kept)} if kept else {}
    return _run([*(["--python", str(python)] if python else []), *arguments], asked, variables)


def _run(arguments: Sequence[str], asked: str, variables: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if done.returncode:
        raise refusal(asked, done.stderr)
    return done.stdout


def kept_pip() -> Path | None:
    """Return the folder of a pip that asks before it downloads, got now unless it is kept; None if this one does.

    Where none can be got, this Python's own says what is wrong with its index.
    """
    try:
        if Version(version("pip")) >= FIRST_THAT_ASKS:
            return None
    except PackageNotFoundError:
        pass
    store, wanted = kept_releases(), f"pip>={FIRST_THAT_ASKS}"
    fields = {"kind": "tool", "asked": wanted, "python": ".".join(map(str, sys.version_info[:2]))}
    if folder := store.find(fields):
        return folder
    try:
        return store.add(fields, lambda new: _get_pip(new, wanted))
    except ReleaseError:
        return None


def _get_pip(folder: Path, wanted: str) -> None:
    _run(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder), wanted], wanted, {})


def refusal(asked: str, stderr: str) -> ReleaseError:
    """Return the error that pip's words amount to, in one line with the remedy."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.partition("ERROR: ")[2] for line in lines if line.startswith("ERROR: ")]
    if "No module named pip" in stderr:
        return ReleaseError(f"{asked}: this Python has no pip; `{sys.executable} -m ensurepip` brings it")
    if _CERTIFICATE.search(stderr):
        remedy = "name its authority: `pip config set global.cert FILE`, or PIP_CERT"
        return Unreachable(f"{asked}: the certificate of the index, or of a proxy, can't be verified; {remedy}")
    if refused := _CREDENTIALS.search(stderr):
        remedy = "name a user and a token where pip looks: pip's files, netrc or a keyring"
        return ReleaseError(f"{asked}: the index refuses access ({refused['code'] or refused['status']}); {remedy}")
    if _NO_NETWORK.search(stderr):
        return Unreachable(f"{asked}: no index can be reached; connect this machine, or name an index in pip's files")
    if has := _HAS.search(stderr):
        listed = [] if has["versions"] == "none" else has["versions"].split(", ")
        # Where several were asked for, or one needs another, it is not clear which of them is missing.
        what = f"wheel of {has['what']}" if has["what"] not in (None, asked.removeprefix("pip:")) else "such wheel"
        there = f"it has {', '.join(listed[-LISTED:])}" if listed else "it has none"
        python = ".".join(map(str, sys.version_info[:2]))
        return ReleaseError(f"{asked}: the index has no {what} for Python {python} on this machine; {there}")
    return ReleaseError(f"{asked}: pip refused: {(errors or lines or ['it gave no reason'])[-1]}")
