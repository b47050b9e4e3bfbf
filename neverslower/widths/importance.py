"""What channels are worth: a plain criterion by default, or scores that the user brings.

By default a filter is worth the sum of its absolute weights (its L1 norm) over the mean of that in its layer, so that a
layer of large kernels counts no more than another one. A channel of a group is worth the sum over all filters of the
group that make it; a group of which `keep` channels stay keeps the sum of its `keep` largest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from neverslower.errors import NeverSlowerError
from neverslower.files.fields import finite, read_json
from neverslower.models.coupling import Group

BY_NORMS = "L1 norm of each filter over its layer's mean, summed over the filters of a group"
Scores = Mapping[str, Sequence[float]]
"""One number for each output channel, by the name of a module or of a group."""


def normalised(norms: Scores) -> dict[str, list[float]]:
    """Return the L1 norms of each layer's filters over their mean; a layer of zeros is worth 1 a filter."""
    found = {}
    for layer, values in norms.items():
        mean = float(np.mean(values)) if len(values) else 0.0
        found[layer] = [value / mean if mean > 0 else 1.0 for value in values]
    return found


def require_known(scores: Scores, known: Iterable[str]) -> None:
    """Refuse scores of what is neither a module nor a group. Raises NeverSlowerError, which names similar ones."""
    names = list(known)
    for name in scores:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3) or names[:3]
            raise NeverSlowerError(f"scores: {name} is no layer and no group of this model (it has {', '.join(close)})")


def of_groups(groups: Iterable[Group], scores: Scores) -> dict[str, list[float]]:
    """Return what the channels of each group are worth. Raises NeverSlowerError that names all without scores."""
    groups = list(groups)
    _require_scores(groups, scores)
    return {group.name: of_group(group, scores) for group in groups}


def _require_scores(groups: Iterable[Group], scores: Scores) -> None:
    missing = {group.name: _scored_by(group)[:3] for group in groups if not scores.keys() & set(_scored_by(group))}
    if missing:
        listed = ", ".join(f"{name} (give them for one of {', '.join(makers)})" for name, makers in missing.items())
        raise NeverSlowerError(f"no scores for the channels of {listed}")


def _scored_by(group: Group) -> list[str]:
    return list(dict.fromkeys([*(member.layer for member in group.members_on("out")), group.name]))


def of_group(group: Group, scores: Scores) -> list[float]:
    """Return what each channel of a group is worth: its own score, else the sum of its members' scores.

    Raises NeverSlowerError where the scores of a member do not fit, or nothing is known of any.
    """
    _require_scores([group], scores)
    if group.name in scores and group.name not in {member.layer for member in group.members}:
        return _fitting(group.name, scores[group.name], group.channels)
    worth = np.zeros(group.channels)
    for member in group.members_on("out"):
        if member.layer in scores:
            size = group.channels * member.width
            values = np.asarray(scores[member.layer], dtype=float)[member.offset : member.offset + size]
            worth += np.asarray(_fitting(member.layer, list(values), size)).reshape(group.channels, -1).sum(axis=1)
    return [float(value) for value in worth]


def kept(worth: Sequence[float]) -> tuple[float, ...]:
    """Return what is kept by 0, 1, 2 … channels: the sums of the largest."""
    return tuple(float(value) for value in np.concatenate([[0.0], np.cumsum(np.sort(worth)[::-1])]))


def load(path: Path) -> dict[str, list[float]]:
    """Read scores from a JSON file: an object of lists of numbers, none below 0. Raises NeverSlowerError."""
    remedy = 'write such as {"layer1.0.conv1": [0.3, 1.2, …]}'
    content = read_json(path, "--scores", remedy, NeverSlowerError)
    if not isinstance(content, dict) or not all(isinstance(values, list) for values in content.values()):
        raise NeverSlowerError(f"--scores {path}: not an object of lists; {remedy}")
    try:
        scores = {name: [finite(name, value) for value in values] for name, values in content.items()}
    except ValueError as error:
        raise NeverSlowerError(f"--scores {path}: {error}; {remedy}") from None
    for name, values in scores.items():
        if min(values, default=0.0) < 0:
            raise NeverSlowerError(f"--scores {path}: {name} has {min(values)}; scores are 0 or more")
    return scores


def _fitting(name: str, values: Sequence[float], channels: int) -> list[float]:
    if len(values) != channels:
        raise NeverSlowerError(f"scores: {name} has {len(values)}, and {channels} channels; give one for each channel")
    return list(values)
