"""Lists the releases from a good one to a bad one: those that the index has between them, or those that are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from packaging.version import Version

from neverslower.errors import NeverSlowerError
from neverslower.releases import wheels
from neverslower.releases.spec import PipRelease, is_release, parse


def releases_from(
    good: str,
    bad: str,
    named: Sequence[str] = (),
    listed: Callable[[str], Sequence[Version]] | None = None,
) -> list[str]:
    """Return the specs of all releases in order, the good one first and the bad one last.

    `named` are those between that the user names; without them, an index says which versions of a package it has, and
    what goes with the package on both sides goes with each of them.
    Raises NeverSlowerError where the two can't be bisected, and ReleaseError where the index can't be asked.
    """
    if good == bad:
        raise NeverSlowerError(f"--good and --bad are both {good}; name two releases")
    if named:
        _require_order([good, *named, bad])
        return [good, *named, bad]
    if not (good.startswith("pip:") and bad.startswith("pip:")):
        return [good, bad]
    first, last = _pinned("--good", good), _pinned("--bad", bad)
    if first.library != last.library:
        other = f"--good is {first.library}, and --bad is {last.library}"
        raise NeverSlowerError(f"{other}: what lies between them? Name the releases in order with --between")
    companions = first.requirements[1:]
    if set(companions) != set(last.requirements[1:]):
        theirs = " and ".join(" ".join(map(str, one.requirements[1:])) or "nothing" for one in (first, last))
        text = f"what goes with {first.library} differs: {theirs}; which of it goes with the releases between?"
        raise NeverSlowerError(f"{text} Name them in order with --between")
    low, high = first.version, last.version
    assert low is not None
    assert high is not None
    if low >= high:
        raise NeverSlowerError(f"--good {good} is not older than --bad {bad}; bisect from the older to the newer one")
    between = [version for version in (listed or wheels.versions)(first.library) if low < version < high]
    words = ("", *map(str, companions))
    return [good, *(f"pip:{first.library}=={version}{' '.join(words)}" for version in between), bad]


def _require_order(texts: Sequence[str]) -> None:
    """Refuse a release that is named twice, or wheels that are named from newer to older."""
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise NeverSlowerError(f"{twice} is named twice; name each release once, in order")
    pinned = [(text, release, release.version) for text, release in _wheels(texts) if release.version]
    for (before, older, low), (after, newer, high) in pairwise(pinned):
        if older.library == newer.library and low > high:
            raise NeverSlowerError(f"{after} is named after {before}; name releases from the older to the newer one")


def _wheels(texts: Sequence[str]) -> Iterator[tuple[str, PipRelease]]:
    releases = ((text, parse("--between", text)) for text in texts if is_release(text))
    return ((text, release) for text, release in releases if isinstance(release, PipRelease))


def _pinned(flag: str, text: str) -> PipRelease:
    release = parse(flag, text)
    assert isinstance(release, PipRelease)
    if release.version is None:
        raise NeverSlowerError(f"{flag} {text}: name one version, such as pip:{release.library}==1.2, or use --between")
    return release


def without_a_list(texts: Sequence[str]) -> bool:
    """Return whether nobody knows which releases lie between two that are not of an index."""
    return len(texts) == 2 and not all(is_release(text) and text.startswith("pip:") for text in texts)
