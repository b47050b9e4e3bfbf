from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverslower.errors import CannotPrune
from neverslower.evidence.observation import Examined, Plan
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, kept_channels
from neverslower.problem.numerics import (
    References,
    convolve,
    deviation,
    padded_tensors,
    pruned_tensors,
    quantise,
    tensors,
    typical_output,
)
from selftests.strategies import small_problems

SMALL = ConvProblem(in_channels=4, height=5, width=6, out_channels=6, kernel=(3, 2), padding=(1, 1, 0, 1))


def _naive(problem, inputs, weights):
    top, _, left, _ = problem.padding
    output = np.zeros(problem.output_shape)
    per_in, per_out = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    for n, channel, row, column in np.ndindex(problem.output_shape):
        for depth, i, j in np.ndindex(per_in, *problem.kernel):
            y = row * problem.stride[0] - top + i * problem.dilation[0]
            x = column * problem.stride[1] - left + j * problem.dilation[1]
            if 0 <= y < problem.height and 0 <= x < problem.width:
                source = channel // per_out * per_in + depth
                output[n, channel, row, column] += float(inputs[n, source, y, x]) * float(weights[channel, depth, i, j])
    return output


@settings(max_examples=60, deadline=None)
@given(small_problems())
def test_the_reference_is_the_convolution_written_out(problem):
    inputs, weights = tensors(problem)
    np.testing.assert_allclose(convolve(problem, inputs, weights), _naive(problem, inputs, weights), atol=1e-12)


def test_the_reference_is_computed_in_float64():
    problem = ConvProblem(in_channels=2, height=1, width=1, out_channels=1, kernel=(1, 1))
    inputs = np.array([1.0, 2.0**-40], dtype=np.float32).reshape(1, 2, 1, 1)
    assert convolve(problem, inputs, np.ones((1, 2, 1, 1), np.float32)).item() == 1 + 2.0**-40


@given(small_problems())
def test_tensors_have_the_problems_shapes_and_are_the_same_each_time(problem):
    inputs, weights = tensors(problem)
    assert (inputs.shape, weights.shape) == (problem.input_shape, problem.weight_shape)
    assert (inputs.dtype, weights.dtype) == (np.dtype(np.float32), np.dtype(np.float32))
    again = tensors(problem)
    assert np.array_equal(inputs, again[0])
    assert np.array_equal(weights, again[1])


def test_inputs_and_weights_are_not_the_same_numbers():
    inputs, weights = tensors(SMALL)
    assert not np.array_equal(inputs.reshape(-1)[:20], weights.reshape(-1)[:20])


@pytest.mark.parametrize("distance", [1, 3, 5])
def test_a_pruned_layers_weights_begin_the_unpruned_layers(distance):
    (inputs, weights), (same, fewer) = tensors(SMALL), tensors(SMALL.prune(distance))
    assert np.array_equal(inputs, same)
    assert np.array_equal(weights[:-distance], fewer)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (DType.BFLOAT16, 1.0, 1.0),
        (DType.BFLOAT16, 1 + 2**-8, 1.0),
        (DType.BFLOAT16, 1 + 3 * 2**-8, 1 + 2**-6),
        (DType.BFLOAT16, 1 + 2**-8 + 2**-20, 1 + 2**-7),
        (DType.BFLOAT16, -1 - 2**-8 - 2**-20, -1 - 2**-7),
        (DType.BFLOAT16, 0.0, 0.0),
        (DType.BFLOAT16, 3.0e38, float.fromhex("0x1.c4p127")),
        (DType.FLOAT16, 1 + 2**-11, 1.0),
        (DType.FLOAT16, 1 + 3 * 2**-11, 1 + 2**-9),
        (DType.FLOAT16, 2**-24, 2**-24),
        (DType.FLOAT16, 2**-26, 0.0),
        (DType.FLOAT32, 1 + 2**-20, 1 + 2**-20),
        (DType.TF32, 1 + 2**-20, 1 + 2**-20),
    ],
)
def test_a_value_is_rounded_to_the_nearest_that_the_dtype_holds_and_ties_to_even(dtype, value, expected):
    rounded = quantise(np.array([value]), dtype)
    assert rounded.dtype == np.float32
    assert rounded.item() == expected


@given(st.floats(-1, 1, width=32), st.sampled_from(DType))
def test_rounding_again_changes_nothing(value, dtype):
    once = quantise(np.array([value]), dtype)
    assert quantise(once, dtype) == once


@pytest.mark.parametrize(("dtype", "bits"), [(DType.BFLOAT16, 16), (DType.FLOAT16, 13)])
def test_tensors_hold_no_more_bits_than_the_dtype(dtype, bits):
    for values in tensors(replace(SMALL, dtype=dtype)):
        normal = values[np.abs(values) >= 2.0**-14]
        assert not np.any(normal.view(np.uint32) & ((1 << bits) - 1))


@settings(max_examples=100, deadline=None)
@given(small_problems(), st.integers(1, 12), st.sampled_from(Side))
def test_a_pruned_layer_gives_the_kept_channels_of_the_unpruned_one(unpruned, distance, side):
    try:
        pruned = unpruned.prune(distance, side)
    except CannotPrune:
        return
    whole, part = pruned_tensors(unpruned, pruned)
    assert (part[0].shape, part[1].shape) == (pruned.input_shape, pruned.weight_shape)
    kept = kept_channels(unpruned, pruned)[1]
    np.testing.assert_allclose(convolve(unpruned, *whole)[:, kept], convolve(pruned, *part), atol=1e-12)


@pytest.mark.parametrize(
    ("unpruned", "side", "distance"),
    [
        (SMALL, Side.OUT, 1),
        (SMALL, Side.IN, 1),
        (replace(SMALL, groups=2), Side.OUT, 2),
        (replace(SMALL, groups=2), Side.IN, 2),
        (replace(SMALL, groups=4, out_channels=4), Side.OUT, 2),
        (replace(SMALL, groups=4, out_channels=8), Side.OUT, 2),
        (replace(SMALL, groups=4, out_channels=8), Side.IN, 1),
        (replace(SMALL, in_channels=6), Side.TOGETHER, 2),
        (replace(SMALL, groups=2), Side.TOGETHER, SMALL.out_channels // 2),
    ],
)
def test_agreement_would_notice_a_wrong_channel(unpruned, side, distance):
    pruned = unpruned.prune(distance, side)
    whole, part = pruned_tensors(unpruned, pruned)
    kept = kept_channels(unpruned, pruned)[1]
    expected, output = convolve(unpruned, *whole)[:, kept], convolve(pruned, *part)
    assert deviation(output, expected) < 1e-12
    assert deviation(np.roll(output, 1, axis=1), expected) > 0.1


def test_input_channels_that_pruning_removes_are_zero_for_the_unpruned_layer():
    unpruned = replace(SMALL, groups=2)
    (inputs, weights), _ = pruned_tensors(unpruned, unpruned.prune(2, Side.IN))
    assert [bool(np.any(inputs[:, channel])) for channel in range(4)] == [True, False, True, False]
    assert np.array_equal(weights, tensors(unpruned)[1])


@settings(max_examples=100, deadline=None)
@given(small_problems(), st.data())
def test_the_unpruned_layer_padded_with_zeros_gives_the_pruned_ones_output(unpruned, data):
    side = data.draw(st.sampled_from(list(Side)))
    step = unpruned.prune_step(side)
    possible = [
        distance for distance in range(step, unpruned.channels(side), step) if unpruned.can_prune(distance, side)
    ]
    if not possible:
        return
    pruned = unpruned.prune(data.draw(st.sampled_from(possible)), side)
    inputs, weights = tensors(pruned)
    padded = padded_tensors(unpruned, pruned, (inputs, weights))
    output = convolve(unpruned, *padded)
    kept = kept_channels(unpruned, pruned)[1]
    np.testing.assert_allclose(output[:, kept], convolve(pruned, inputs, weights), atol=1e-12)
    assert not np.any(np.delete(output, kept, axis=1))


@pytest.fixture
def convolutions(monkeypatch):
    computed = []

    def recording(problem, *tensors):
        computed.append(problem)
        return convolve(problem, *tensors)

    monkeypatch.setattr(numerics, "convolve", recording)
    return computed


OTHERS = [
    replace(SMALL, out_channels=7),
    replace(SMALL, in_channels=3),
    replace(SMALL, height=6),
    replace(SMALL, stride=(2, 2)),
    replace(SMALL, dtype=DType.BFLOAT16),
    replace(SMALL, batch=2),
    replace(SMALL, groups=2),
    replace(SMALL, groups=2).prune(2),
    replace(SMALL, groups=4, out_channels=4),
    replace(SMALL, groups=4, out_channels=4).prune(2),
    SMALL.prune(1, Side.IN),
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda problem: problem.key)
def test_references_stay_right_when_the_layer_changes_and_comes_back(other):
    references = References()
    for problem in (SMALL, SMALL.prune(3), other, SMALL.prune(1), SMALL, other):
        expected = convolve(problem, *tensors(problem))
        np.testing.assert_allclose(references.expected(problem, *tensors(problem)), expected, atol=1e-12)


def test_references_of_pruned_layers_need_no_second_convolution(convolutions):
    references = References()
    for problem in (SMALL, SMALL.prune(1), SMALL.prune(5), SMALL):
        references.expected(problem, *tensors(problem))
    assert convolutions == [SMALL]


@pytest.mark.parametrize("other", OTHERS, ids=lambda problem: problem.key)
def test_references_of_another_layer_are_computed(convolutions, other):
    references = References()
    for problem in (SMALL, other):
        references.expected(problem, *tensors(problem))
    assert convolutions == [SMALL, other]


def test_the_layout_in_memory_does_not_change_the_reference():
    references = References()
    other = replace(SMALL, layout=Layout.NHWC)
    first = references.expected(SMALL, *tensors(SMALL))
    np.testing.assert_array_equal(first, references.expected(other, *tensors(other)))


def test_deviation_is_a_share_of_the_largest_expected_value():
    assert deviation(np.array([1.0, -3.5]), np.array([1.0, -4.0])) == 0.125


def test_deviation_from_nothing_but_zeros_is_absolute():
    assert deviation(np.array([0.0, 0.5]), np.zeros(2)) == 0.5


def test_a_typical_output_is_the_standard_deviation_of_many():
    problem = ConvProblem(in_channels=20, height=40, width=40, out_channels=20, kernel=(3, 3))
    assert typical_output(problem) == pytest.approx(float(np.std(convolve(problem, *tensors(problem)))), rel=0.05)


def test_a_single_output_whose_terms_cancel_is_not_wrong_for_it():
    problem = ConvProblem(in_channels=689, height=1, width=1, out_channels=1, kernel=(1, 1))
    inputs, weights = tensors(problem)
    one_by_one = np.cumsum(inputs.reshape(-1) * weights.reshape(-1), dtype=np.float32)[-1].reshape(1, 1, 1, 1)
    expected = convolve(problem, inputs, weights)
    assert deviation(one_by_one, expected) > numerics.TOLERANCES[DType.FLOAT32]
    assert deviation(one_by_one, expected, typical_output(problem)) < numerics.TOLERANCES[DType.FLOAT32] / 10


def test_where_an_output_is_large_the_typical_one_does_not_matter():
    assert deviation(np.array([1.0, -3.5]), np.array([1.0, -4.0]), 3.9) == 0.125


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_is_infinitely_off(bad):
    assert deviation(np.array([1.0, bad]), np.array([1.0, 2.0])) == np.inf


def test_a_deviation_that_is_no_number_is_wrong():
    assert Examined(Plan("direct"), np.nan, 1e-4, 1e-3).wrong
    assert not Examined(Plan("direct"), 1e-4, 1e-4, 1e-3).wrong


def test_an_output_of_another_shape_is_infinitely_off():
    assert deviation(np.ones((1, 2, 3, 3)), np.ones((1, 2, 3, 1))) == np.inf
    assert deviation(np.ones((2, 1)), np.ones((1, 2))) == np.inf


@pytest.mark.parametrize("dtype", list(DType))
def test_every_dtype_has_a_tolerance_that_its_rounding_passes_and_a_lost_tap_fails(dtype):
    problem = replace(SMALL, in_channels=64, dtype=dtype)
    inputs, weights = tensors(problem)
    expected = convolve(problem, inputs, weights)
    lost = weights.copy()
    lost[:, :, 0, 0] = 0
    assert deviation(quantise(expected, dtype), expected) < numerics.TOLERANCES[dtype]
    assert deviation(convolve(problem, inputs, lost), expected) > numerics.TOLERANCES[dtype]
