"""The reference at a sample of an output: the same values as the whole, and mistakes at the ends are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.problem import numerics, reference
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.reference import Sample, convolve_at, sample_of
from selftests.strategies import small_problems

HUGE = parse_descriptor("mb37_ic104oc40_ih222kh9ph4")
"""A hundred milliseconds of oneDNN, and four minutes of numpy."""


def every(problem: ConvProblem) -> Sample:
    """All of an output."""
    return Sample(*(np.arange(size) for size in problem.output_shape))


@given(small_problems(), st.data())
def test_a_sample_has_the_values_of_the_whole(problem: ConvProblem, data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, size)) for size in problem.output_shape]
    at = Sample(*(reference._spread(count, size) for count, size in zip(counts, problem.output_shape, strict=True)))
    inputs, weights = numerics.tensors(problem)
    whole = numerics.convolve(problem, inputs, weights)
    np.testing.assert_allclose(convolve_at(problem, inputs, weights, at), at.of(whole), atol=1e-12)
    np.testing.assert_allclose(convolve_at(problem, inputs, weights, every(problem)), whole, atol=1e-12)


def test_a_problem_that_is_soon_computed_is_compared_whole() -> None:
    assert sample_of(parse_descriptor("mb1_ic128oc128_ih28kh3ph1")) is None


@pytest.mark.parametrize(
    "text", ["mb37_ic104oc40_ih222kh9ph4", "mb16_ic256oc256_ih512kh3ph1", "mb1_ic4096oc9999_ih8kh1"]
)
def test_a_sample_begins_and_ends_where_the_output_does_and_costs_little(text: str) -> None:
    problem = parse_descriptor(text)
    at = sample_of(problem)
    if at is None:
        pytest.skip("compared whole")
    for indices, size in zip((at.images, at.channels, at.rows, at.columns), problem.output_shape, strict=True):
        assert indices[0] == 0
        assert indices[-1] == size - 1
    _, depth, kernel_h, kernel_w = problem.weight_shape
    assert at.share(problem) * math.prod(problem.output_shape) * depth * kernel_h * kernel_w < 1e9


@pytest.fixture
def _sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "WHOLE_MACS", 0)
    monkeypatch.setattr(reference, "SAMPLED_MACS", 5_000)


@pytest.mark.usefixtures("_sampled")
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (-1, -1, -1, -1), (0, -1, -1, 0), (-1, 0, 0, -1)])
def test_a_small_error_at_an_end_is_found(place: tuple[int, ...]) -> None:
    problem = parse_descriptor("mb3_ic8oc48_ih12kh3ph1")
    inputs, weights = numerics.tensors(problem)
    output = numerics.convolve(problem, inputs, weights)
    right, compared = numerics.References().error(problem, inputs, weights, output)
    assert right < 1e-12
    assert 0 < compared < 0.5
    output[place] += 0.01 * np.abs(output).max()
    assert numerics.References().error(problem, inputs, weights, output)[0] > 0.005


@pytest.mark.usefixtures("_sampled")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_wrong_wherever_it_stands(value: float) -> None:
    problem = parse_descriptor("mb3_ic8oc48_ih12kh3ph1")
    inputs, weights = numerics.tensors(problem)
    output = numerics.convolve(problem, inputs, weights)
    output[1, 1, 1, 1] = value
    assert numerics.References().error(problem, inputs, weights, output)[0] == np.inf


def test_values_drawn_in_slices_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = parse_descriptor("mb5_ic3oc7_ih9kh3ph1")
    whole = numerics._draw(np.random.default_rng(1), problem.input_shape, problem.dtype)
    monkeypatch.setattr(numerics, "DRAWN_AT_ONCE", 500)
    np.testing.assert_array_equal(numerics._draw(np.random.default_rng(1), problem.input_shape, problem.dtype), whole)


def test_the_checker_needs_no_more_memory_than_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = parse_descriptor("mb16_ic256oc256_ih512kh3ph1")
    sizes = {"SC_PHYS_PAGES": 24 * 2**18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    numerics._require_memory(problem)
