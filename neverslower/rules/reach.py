"""How far rules reach that are mined from a record: fitted on some of its layers, and tested on the others.

Rules that are tested on the layers that they were fitted on look better than they are. So the layers are dealt to a few
groups in the order of their names, and each group is tested by the rules that the others yield. Layers of one shape
are in one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from neverslower.problem.comparison import Comparison
from neverslower.rules.mining import MOST_FALSE, Case, Coverage, coverages, mine

GROUPS = 4
LITTLE = 0.5
"""Rules that cover less of other layers' hazards are about the layers of the record."""


def across_layers(cases: Sequence[Case], most_rules: int, most_groups: int = GROUPS) -> list[Coverage]:
    """Return how 1 to `most_rules` rules cover layers that they were not fitted on; empty where there is one alone."""
    names: dict[str, str] = {}
    for case in sorted(cases, key=lambda case: case.comparison.layer.name):
        names.setdefault(_shape(case.comparison), case.comparison.layer.name)
    groups = min(most_groups, len(names))
    if groups < 2:
        return []
    group = {shape: number % groups for number, shape in enumerate(names)}
    total = [Coverage(0, 0, 0, 0)] * most_rules
    for one in range(groups):
        fitted = [case for case in cases if group[_shape(case.comparison)] != one]
        tested = [case for case in cases if group[_shape(case.comparison)] == one]
        total = [before + added for before, added in zip(total, curve(fitted, tested, most_rules), strict=True)]
    return total


def curve(fitted: Sequence[Case], tested: Sequence[Case], most_rules: int) -> list[Coverage]:
    """Return how the first 1 to `most_rules` rules of `fitted` cover `tested`; where there are fewer, how all do."""
    found = list(coverages(tested, [rule.when for rule in mine(fitted, most_rules)]))
    hazards = sum(case.hazard for case in tested)
    last = found[-1] if found else Coverage(hazards, 0, len(tested) - hazards, 0)
    return [*found, *repeat(last, most_rules - len(found))]


def reach_text(held_out: Sequence[Coverage]) -> str:
    """Return what a person has to know of all these rules before they accept one, from what `across_layers` returns."""
    if not held_out:
        return "The record has one layer alone, so nothing says whether these rules hold on others."
    last = held_out[-1]
    told = (
        f"On layers that they were not fitted on, rules mined like these cover {last.coverage:.1%} of the hazards, and "
        f"{last.false_share:.1%} of what they cover is no hazard."
    )
    if last.false_share > MOST_FALSE:
        return (
            f"{told} So they do not hold beyond the layers of the record: accept none without a test that names its "
            "layers (of in_channels, height and kernel_h), or accept the hazards into a baseline."
        )
    if last.coverage < LITTLE:
        return f"{told} So they say little of other layers."
    return told


def _shape(comparison: Comparison) -> str:
    """Return what layers share that are tested together: the unpruned layer, whatever its format."""
    return comparison.reference.descriptor
