from dataclasses import FrozenInstanceError, replace
from typing import Any, cast

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from neverslower.errors import CannotPrune, InvalidProblem
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, kept_channels
from selftests.strategies import problems

L16 = ConvProblem(in_channels=128, height=28, width=28, out_channels=128, kernel=(3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = replace(L16, groups=128)
MULTIPLIER = replace(L16, in_channels=4, out_channels=8, groups=4)
GROUPED = replace(L16, in_channels=8, out_channels=16, groups=4)


@pytest.mark.parametrize("field", ["in_channels", "height", "width", "out_channels", "batch", "groups"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_a_count_that_is_no_positive_whole_number_is_refused_by_name(field, value):
    with pytest.raises(InvalidProblem, match=rf"\b{field}\b.*at least 1"):
        replace(L16, **{field: value})


@pytest.mark.parametrize("field", ["kernel", "stride", "dilation"])
@pytest.mark.parametrize("value", [(0, 3), (3, -1), (3, 1.5), (3,), (3, 3, 3), [3, 3], 3])
def test_a_pair_that_is_not_two_positive_whole_numbers_is_refused_by_name(field, value):
    with pytest.raises(InvalidProblem, match=rf"^{field}="):
        replace(L16, **{field: value})


@pytest.mark.parametrize("value", [(1, 1), (1, 1, 1, -1), (1, 1, 1, 0.5), [1, 1, 1, 1], 1])
def test_padding_that_is_not_four_whole_numbers_is_refused_by_name(value):
    with pytest.raises(InvalidProblem, match=r"^padding="):
        replace(L16, padding=value)


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float32"), ("dtype", "fp8"), ("layout", "NCHW"), ("layout", 1)]
)
def test_a_dtype_or_layout_that_is_not_one_of_ours_is_refused_by_name(field, value):
    with pytest.raises(InvalidProblem, match=rf"^{field}="):
        replace(L16, **{field: value})


@pytest.mark.parametrize("field", ["in_channels", "out_channels"])
def test_groups_must_divide_the_channels(field):
    with pytest.raises(InvalidProblem, match=rf"groups=4 does not divide {field}=10"):
        replace(GROUPED, **cast(Any, {field: 10}))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [({"height": 2}, "height 2"), ({"width": 2}, "width 2"), ({"dilation": (2, 1), "height": 4}, "height 4")],
)
def test_a_kernel_larger_than_the_padded_input_is_refused_with_the_axis(shape, axis):
    with pytest.raises(InvalidProblem, match=rf"larger than the padded input: {axis}\b"):
        replace(L16, padding=(0, 0, 0, 0), **shape)


def test_a_kernel_as_large_as_the_padded_input_leaves_one_output():
    assert replace(L16, height=3, width=3, padding=(0, 0, 0, 0)).output_shape == (1, 128, 1, 1)


def test_a_problem_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        setattr(L16, "batch", 2)  # noqa: B010  (mypy knows that it cannot be done)


def _outputs_by_sliding(size, kernel, stride, dilation, before, after):
    starts = range(0, size + before + after, stride)
    return sum(start + (kernel - 1) * dilation < size + before + after for start in starts)


@given(problems())
def test_output_size_counts_the_windows_that_fit(problem):
    top, bottom, left, right = problem.padding
    axes = list(zip((problem.height, problem.width), problem.kernel, problem.stride, problem.dilation, strict=True))
    assert problem.out_height == _outputs_by_sliding(*axes[0], top, bottom)
    assert problem.out_width == _outputs_by_sliding(*axes[1], left, right)


@pytest.mark.parametrize("problem", [L16, DEPTHWISE, MULTIPLIER, GROUPED, replace(L16, batch=2, stride=(2, 1))])
def test_macs_count_one_multiplication_for_each_weight_and_pixel(problem):
    per_pixel = problem.kernel[0] * problem.kernel[1] * problem.in_channels // problem.groups
    batch, channels, rows, columns = problem.output_shape
    assert problem.macs == batch * channels * rows * columns * per_pixel


def test_macs_of_known_layers():
    assert L16.macs == 115_605_504
    assert DEPTHWISE.macs == 28 * 28 * 128 * 9


@pytest.mark.parametrize(
    ("dtype", "itemsize"), [(DType.FLOAT32, 4), (DType.TF32, 4), (DType.FLOAT16, 2), (DType.BFLOAT16, 2)]
)
def test_bytes_are_those_of_input_weights_and_output(dtype, itemsize):
    elements = 128 * 28 * 28 + 128 * 128 * 9 + 128 * 28 * 28
    assert replace(L16, dtype=dtype).bytes == elements * itemsize


def test_weights_of_a_grouped_layer_see_their_own_group_only():
    assert GROUPED.weight_shape == (16, 2, 3, 3)
    assert DEPTHWISE.weight_shape == (128, 1, 3, 3)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [(L16, False), (DEPTHWISE, True), (MULTIPLIER, True), (GROUPED, False), (replace(L16, in_channels=1), False)],
)
def test_a_layer_is_depthwise_when_each_input_channel_is_a_group(problem, expected):
    assert problem.depthwise is expected


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("size", "stride", "given_padding", "canonical"),
    [
        (28, 1, (1, 1), (1, 1)),
        (28, 2, (1, 0), (1, 1)),
        (28, 2, (0, 1), (0, 1)),
        (29, 2, (0, 1), (0, 0)),
        (28, 1, (0, 1), (0, 1)),
        (28, 4, (0, 5), (0, 3)),
    ],
)
def test_padding_that_no_window_reads_is_dropped(axis, size, stride, given_padding, canonical):
    shape = {"height": size} if axis == 0 else {"width": size}
    strides = (stride, 1) if axis == 0 else (1, stride)
    padding = (*given_padding, 1, 1) if axis == 0 else (1, 1, *given_padding)
    kept = replace(L16, **shape, stride=strides, padding=padding).padding
    assert kept[2 * axis : 2 * axis + 2] == canonical
    assert kept[2 - 2 * axis : 4 - 2 * axis] == (1, 1)


@given(problems(), st.integers(0, 4), st.integers(0, 4))
@example(replace(L16, stride=(2, 2), padding=(1, 0, 1, 0)), 1, 1)
def test_equal_convolutions_are_equal_and_have_one_key(problem, more_below, more_right):
    top, bottom, left, right = problem.padding
    wider = replace(problem, padding=(top, bottom + more_below, left, right + more_right))
    assume(wider.output_shape == problem.output_shape)
    assert (wider, hash(wider), wider.key) == (problem, hash(problem), problem.key)


@given(problems(), problems())
def test_keys_are_equal_exactly_when_problems_are(one, other):
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(("padding", "symmetric"), [((1, 1, 2, 2), True), ((0, 1, 1, 1), False), ((1, 1, 0, 1), False)])
def test_symmetric_padding_looks_at_both_axes(padding, symmetric):
    assert replace(L16, padding=padding).symmetric_padding is symmetric


@given(problems())
def test_the_key_names_the_whole_problem(problem):
    assert ConvProblem.from_key(problem.key) == problem


def test_the_key_of_a_known_layer_is_stable():
    problem = replace(L16, dtype=DType.BFLOAT16, layout=Layout.NHWC)
    assert problem.key == "mb1_g1ic128oc128_ih28oh28kh3sh1ph1-bfloat16-NHWC"
    assert str(problem) == "mb1_g1ic128oc128_ih28oh28kh3sh1ph1 bfloat16 NHWC"


@pytest.mark.parametrize("changed", [{"dtype": DType.TF32}, {"layout": Layout.NHWC}, {"batch": 2}])
def test_what_the_descriptor_does_not_say_is_in_the_key(changed):
    assert replace(L16, **changed).key != L16.key


@pytest.mark.parametrize(
    ("problem", "side", "distance", "shape"),
    [
        (L16, Side.OUT, 1, (128, 127, 1)),
        (L16, Side.IN, 1, (127, 128, 1)),
        (L16, Side.OUT, 127, (128, 1, 1)),
        (DEPTHWISE, Side.OUT, 3, (125, 125, 125)),
        (DEPTHWISE, Side.IN, 3, (125, 125, 125)),
        (DEPTHWISE, Side.OUT, 127, (1, 1, 1)),
        (MULTIPLIER, Side.OUT, 2, (3, 6, 3)),
        (MULTIPLIER, Side.IN, 1, (3, 6, 3)),
        (GROUPED, Side.OUT, 4, (8, 12, 4)),
        (GROUPED, Side.IN, 4, (4, 16, 4)),
    ],
)
def test_pruning_leaves_a_valid_layer_with_fewer_channels(problem, side, distance, shape):
    pruned = problem.prune(distance, side)
    assert (pruned.in_channels, pruned.out_channels, pruned.groups) == shape
    unchanged = replace(pruned, in_channels=1, out_channels=1, groups=1)
    assert unchanged == replace(problem, in_channels=1, out_channels=1, groups=1)


def test_pruning_takes_output_channels_unless_told_otherwise():
    assert L16.prune(7) == L16.prune(7, Side.OUT)


@pytest.mark.parametrize(
    ("problem", "side", "distance", "reason"),
    [
        (L16, Side.OUT, 128, r"128 of its 128 output channels can't be pruned \(1 to 127 can\)"),
        (L16, Side.IN, 200, r"200 of its 128 input channels"),
        (L16, Side.OUT, 0, r"0 of its 128 output"),
        (L16, Side.OUT, -1, r"-1 of its 128 output"),
        (MULTIPLIER, Side.OUT, 3, r"whole groups of 2 output channels; 3 is not a multiple"),
        (GROUPED, Side.OUT, 3, r"3 channels can't be taken evenly from 4 groups; prune a multiple of 4"),
        (GROUPED, Side.IN, 2, r"2 channels can't be taken evenly from 4 groups"),
    ],
)
def test_what_cannot_be_pruned_says_why(problem, side, distance, reason):
    with pytest.raises(CannotPrune, match=reason) as caught:
        problem.prune(distance, side)
    assert str(problem) in str(caught.value)


@given(problems(largest_channels=40), st.integers(1, 120), st.sampled_from(Side))
def test_a_pruning_removes_what_was_asked_or_is_refused(problem, distance, side):
    try:
        pruned = problem.prune(distance, side)
    except CannotPrune:
        return
    assert problem.channels(side) - pruned.channels(side) == distance
    kept_in, kept_out = kept_channels(problem, pruned)
    assert (len(kept_in), len(kept_out)) == (pruned.in_channels, pruned.out_channels)


@pytest.mark.parametrize(
    ("problem", "side", "distance", "kept"),
    [
        (replace(L16, in_channels=2, out_channels=4), Side.OUT, 1, ([0, 1], [0, 1, 2])),
        (replace(L16, in_channels=3, out_channels=2), Side.IN, 2, ([0], [0, 1])),
        (MULTIPLIER, Side.OUT, 4, ([0, 1], [0, 1, 2, 3])),
        (GROUPED, Side.OUT, 8, ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 4, 5, 8, 9, 12, 13])),
        (GROUPED, Side.IN, 4, ([0, 2, 4, 6], list(range(16)))),
    ],
)
def test_the_first_channels_of_each_group_are_kept(problem, side, distance, kept):
    assert kept_channels(problem, problem.prune(distance, side)) == kept
