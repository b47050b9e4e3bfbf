"""Mine rules from a record: the few simple predicates that cover its hazards and hardly anything else.

Rules are found one after the other, each the conjunction of a few tests that newly covers the most hazards
while at most a small share of what it newly covers is none, and in two layers or more: what holds in one layer alone
was seen to say nothing of others. A conjunction grows test by test. The best ones of each length are kept under several
prices of a false case: the test that helps most at last is seldom the best by itself.

A layer of 2048 channels has 32 times the cases of one with 64, and hardly says more about other layers. So a case
weighs the inverse root of the number of its layer's cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neverslower.problem.comparison import Comparison
from neverslower.problem.predicate import FIELDS, holds
from neverslower.rules.rule import FURTHER, further_fields

Mask = NDArray[np.bool_]
MODULI = (2, 4, 8, 16, 32)
CHANNELS = ("out_channels", "in_channels")
Columns = Mapping[str, NDArray[Any]]
DERIVED: dict[str, Callable[[Columns], NDArray[Any]]] = {
    "in_channels // groups * kernel_h * kernel_w": lambda c: (
        c["in_channels"] // c["groups"] * c["kernel_h"] * c["kernel_w"]
    ),
    "kernel_h * stride_h": lambda c: c["kernel_h"] * c["stride_h"],
}
"""Expressions with what each is in arrays: the products summed for an output, and 1 for a plain matrix product."""
RANGED = ("out_channels", "in_channels", "height", "macs", "kept_percent", "distance", *DERIVED)
EXACT = ("kernel_h", "stride_h", "groups", "dtype", "layout", "side", "post_ops", "bias")
CUTS, MOST_VALUES = 16, 40
"""How many thresholds a range is cut at, and how many values a field may have to be tested for each."""
LONGEST_RULE, BEAM = 5, 8
PRICES = (1, 4, 16, 64)
"""How many hazards one false case outweighs, in the scores by which conjunctions are kept while they grow."""
MOST_RULES, MOST_FALSE, FEWEST = 12, 0.02, 3
FEWEST_LAYERS = 2
"""A rule that covers hazards of one layer alone says nothing of others, unless the record has no more."""
WORTH_A_TEST = 1.02
"""How much more a longer conjunction has to cover: one test less is easier to accept."""


@dataclass(frozen=True)
class Case:
    """One comparison of a record, its ratio of pruned to unpruned, and whether it was proved a hazard."""

    comparison: Comparison
    ratio: float
    hazard: bool


@dataclass(frozen=True)
class Mined:
    """One rule that was mined: its predicate, the ratios of the hazards that it covers, and counts.

    `hazards` and `false` count what the rule matches, `new` the hazards that no rule before it covers.
    """

    when: str
    ratios: tuple[float, float]
    hazards: int
    false: int
    new: int


@dataclass(frozen=True)
class Coverage:
    """How well rules cover cases: `covered` of `hazards`, and `false` of the `harmless` too."""

    hazards: int
    covered: int
    harmless: int
    false: int

    def __add__(self, other: Coverage) -> Coverage:
        """Return how well the cases of both are covered, taken together."""
        return Coverage(
            self.hazards + other.hazards,
            self.covered + other.covered,
            self.harmless + other.harmless,
            self.false + other.false,
        )

    @property
    def coverage(self) -> float:
        """Return the share of the hazards that is covered, 1 where there is none."""
        return self.covered / self.hazards if self.hazards else 1.0

    @property
    def false_share(self) -> float:
        """Return the share of what is covered that is no hazard, 0 where nothing is covered."""
        matched = self.covered + self.false
        return self.false / matched if matched else 0.0

    @property
    def harmless_share(self) -> float:
        """Return the share of what is no hazard that is covered all the same."""
        return self.false / self.harmless if self.harmless else 0.0


def mine(
    cases: Sequence[Case], most_rules: int = MOST_RULES, most_false: float = MOST_FALSE, fewest: int = FEWEST
) -> list[Mined]:
    """Return at most `most_rules` rules, each newly covering `fewest` hazards or more, the most telling first."""
    columns = _columns(cases)
    texts, matrix = _tests(columns, len(cases))
    hazard = np.array([case.hazard for case in cases], dtype=bool)
    ratios, layers = np.array([case.ratio for case in cases]), _layers(cases)
    left = np.ones(len(cases), dtype=bool)
    mined: list[Mined] = []
    while (hazard & left).any() and len(mined) < most_rules:
        counts, exact = _exact_counts(columns["out_channels"], hazard & left)
        search = _Search(np.concatenate([matrix, exact]), hazard, layers, most_false, fewest)
        chosen = search.best(left)
        if not chosen:
            break
        matched = np.logical_and.reduce(search.matrix[list(chosen)])
        mined.append(_mined([[*texts, *counts][index] for index in chosen], matched, hazard, left, ratios))
        left &= ~matched
    return mined


def _mined(tests: Sequence[str], matched: Mask, hazard: Mask, left: Mask, ratios: NDArray[np.float64]) -> Mined:
    """Return the rule of these tests, which match so; all arrays are of shape (cases,)."""
    caught = ratios[matched & hazard]
    return Mined(
        " and ".join(tests),
        (_down(caught.min()), -_down(-caught.max())),
        int((matched & hazard).sum()),
        int((matched & ~hazard).sum()),
        int((matched & hazard & left).sum()),
    )


def coverages(cases: Sequence[Case], predicates: Sequence[str]) -> Iterator[Coverage]:
    """Yield how well the first rule covers cases, the first two, and so on; asked as a run asks, case by case."""
    covered = np.zeros(len(cases), dtype=bool)
    hazard = np.array([case.hazard for case in cases], dtype=bool)
    fields = [further_fields(case.comparison) for case in cases]
    for when in predicates:
        for index in np.flatnonzero(~covered).tolist():
            covered[index] = holds(when, cases[index].comparison.candidate, fields[index])
        caught, false = int((covered & hazard).sum()), int((covered & ~hazard).sum())
        yield Coverage(int(hazard.sum()), caught, int((~hazard).sum()), false)


# Searching


@dataclass(frozen=True)
class _Search:
    """Looks for the best conjunction of tests: `matrix` says which case passes which test, of shape (tests, cases).

    `hazard` and `layers`, the number of each case's layer, are of shape (cases,).
    """

    matrix: Mask
    hazard: Mask
    layers: NDArray[np.int64]
    most_false: float
    fewest: int

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """Return the weight of each case, of shape (cases,)."""
        return np.asarray(1 / np.sqrt(np.bincount(self.layers)[self.layers]), dtype=np.float32)

    @cached_property
    def fewest_layers(self) -> int:
        """Return how many layers a rule must cover hazards of, if there are so many."""
        return min(FEWEST_LAYERS, len(np.unique(self.layers[self.hazard])))

    def best(self, left: Mask) -> tuple[int, ...]:
        """Return the tests that together cover the most of what is `left`, empty where none are good enough."""
        grown: dict[tuple[int, ...], Mask] = {(): left}
        best: tuple[int, ...] = ()
        most = 0.0
        for _ in range(LONGEST_RULE):
            bases = list(grown)
            gained, lost, good = self._judged([grown[base] for base in bases])
            scores = np.where(good & (gained > most), gained, -1)
            if found := self._first_of_layers(scores, [grown[base] for base in bases]):
                test, base = found
                best, most = (*bases[base], test), float(gained[test, base]) * WORTH_A_TEST
            candidates = {index for price in PRICES for index in _top(gained - price * lost)}
            grown = {
                tuple(sorted({*bases[base], test})): grown[bases[base]] & self.matrix[test]
                for test, base in (divmod(index, len(bases)) for index in candidates)
                if gained[test, base] > most
            }
            if not grown:
                break
        return best

    def _first_of_layers(self, scores: NDArray[np.float32], bases: Sequence[Mask]) -> tuple[int, int] | None:
        """Return the (test, base) of the highest score above 0 whose hazards are of enough layers, None for none."""
        for flat in np.argsort(-scores, axis=None, kind="stable").tolist():
            test, base = divmod(flat, len(bases))
            if scores[test, base] <= 0:
                break
            if len(np.unique(self.layers[bases[base] & self.matrix[test] & self.hazard])) >= self.fewest_layers:
                return test, base
        return None

    def _judged(self, bases: Sequence[Mask]) -> tuple[NDArray[np.float32], NDArray[np.float32], Mask]:
        """Return the weights of hazards and of false cases, and what is good enough, each of shape (tests, bases)."""
        passing = np.array(bases, dtype=np.float32)
        tests = self.matrix.astype(np.float32)
        gained, lost = (tests @ (passing * of * self.weights).T for of in (self.hazard, ~self.hazard))
        hazards, false = (tests @ (passing * of).T for of in (self.hazard, ~self.hazard))
        good = (false <= self.most_false * (hazards + false)) & (lost <= self.most_false * (gained + lost))
        return gained, lost, good & (hazards >= self.fewest)


def _layers(cases: Sequence[Case]) -> NDArray[np.int64]:
    """Return the number of each case's layer, of shape (cases,)."""
    return np.unique([case.comparison.reference.key for case in cases], return_inverse=True)[1]


def _top(scores: NDArray[np.float32]) -> list[int]:
    """Return the flat positions of the highest scores."""
    flat = scores.ravel()
    return np.argpartition(flat, -BEAM)[-BEAM:].tolist() if flat.size > BEAM else list(range(flat.size))


# Tests


def _tests(columns: Columns, cases: int) -> tuple[list[str], Mask]:
    """Return the tests that tell some cases from others, as text, and which case passes which: (tests, cases)."""
    rows: dict[bytes, tuple[str, Mask]] = {}
    for text, mask in _every_test(columns):
        if mask.any() and not mask.all():
            rows.setdefault(
                mask.tobytes(), (text, mask)
            )  # Tests that agree on all cases are one; the first is plainest.
    texts, masks = [text for text, _ in rows.values()], [mask for _, mask in rows.values()]
    return texts, np.array(masks, dtype=bool).reshape(len(texts), cases)


def _columns(cases: Sequence[Case]) -> dict[str, NDArray[Any]]:
    columns = {name: np.array([read(case.comparison.candidate) for case in cases]) for name, read in FIELDS.items()}
    columns |= {name: np.array([read(case.comparison) for case in cases]) for name, read in FURTHER.items()}
    return columns | {text: read(columns) for text, read in DERIVED.items()}


def _every_test(columns: Columns) -> Iterator[tuple[str, Mask]]:
    for name in EXACT:
        values = np.unique(columns[name])
        for value in values[:MOST_VALUES].tolist():
            yield f"{name} == {value!r}", columns[name] == value
    for name in CHANNELS:
        for modulus in MODULI:
            yield f"{name} % {modulus} != 0", columns[name] % modulus != 0
            yield f"{name} % {modulus} == 0", columns[name] % modulus == 0
    for name in RANGED:
        for cut in _cuts(columns[name]):
            yield f"{name} >= {cut}", columns[name] >= cut
            yield f"{name} < {cut}", columns[name] < cut


def _exact_counts(counts: NDArray[Any], wanted: Mask) -> tuple[list[str], Mask]:
    """Return tests for single channel counts, those that the most of what is `wanted` has, and which case passes."""
    values, often = np.unique(counts[wanted], return_counts=True)
    chosen = np.sort(values[np.argsort(-often, kind="stable")[:MOST_VALUES]])
    return [f"out_channels == {value}" for value in chosen.tolist()], counts == chosen[:, None]


def _cuts(values: NDArray[Any]) -> list[int]:
    """Return thresholds: those that leave equal shares on both sides, or every value where they are few."""
    distinct = np.unique(values)
    if len(distinct) > CUTS:
        distinct = np.unique(np.quantile(values, np.linspace(0, 1, CUTS + 1)[1:-1]).astype(np.int64))
    return [int(value) for value in distinct]


def _down(value: float) -> float:
    """Return a ratio rounded down to two digits behind the point."""
    return float(np.floor(value * 100) / 100)
