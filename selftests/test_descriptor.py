import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.errors import DescriptorError, InvalidProblem
from neverslower.problem.convolution import ConvProblem, DType, Layout, parse_descriptor
from selftests.strategies import problems

L16 = ConvProblem(in_channels=128, height=28, width=28, out_channels=128, kernel=(3, 3), padding=(1, 1, 1, 1))


@given(problems())
def test_what_is_printed_is_read_back(problem):
    assert parse_descriptor(problem.descriptor, problem.dtype, problem.layout) == problem


@given(problems())
def test_the_printed_form_has_no_defaults_but_width_and_dilation(problem):
    named = set(re.findall("[a-z]+", problem.descriptor)) - {"dh", "dw"}
    down = {"mb", "g", "ic", "oc", "ih", "oh", "kh", "sh", "ph"}
    assert named in (down, down | {"iw", "ow", "kw", "sw", "pw"})


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (L16, "mb1_g1ic128oc128_ih28oh28kh3sh1ph1"),
        (replace(L16, batch=2, groups=128), "mb2_g128ic128oc128_ih28oh28kh3sh1ph1"),
        (replace(L16, dilation=(2, 2)), "mb1_g1ic128oc128_ih28oh26kh3sh1dh1ph1"),
        (replace(L16, width=14), "mb1_g1ic128oc128_ih28oh28kh3sh1ph1_iw14ow14kw3sw1pw1"),
        (replace(L16, padding=(0, 1, 1, 1)), "mb1_g1ic128oc128_ih28oh27kh3sh1ph0_iw28ow28kw3sw1pw1"),
        (replace(L16, dilation=(1, 2)), "mb1_g1ic128oc128_ih28oh28kh3sh1dh0ph1_iw28ow26kw3sw1dw1pw1"),
    ],
)
def test_the_printed_form_is_benchdnns(problem, text):
    assert problem.descriptor == text
    assert parse_descriptor(text) == problem


@pytest.mark.parametrize(
    "text",
    [
        "mb1_ic128oc128_ih28oh28kh3sh1dh0ph1_iw28ow28kw3sw1dw0pw1",
        "mb1_g1ic128oc128_ih28oh28kh3sh1dh0ph1_iw28ow28kw3sw1dw0pw1",
        "mb1g1ic128oc128ih28oh28kh3ph1",
        'mb1_ic128oc128_ih28oh28kh3ph1n"conv1"',
        'mb1_ic128oc128_ih28oh28kh3ph1_n"layer2.1.conv2 (L16)"',
        "_mb1__ic128_oc128_ih28_oh28_kh3_ph1_",
        "kh3ph1ih28oc128ic128mb1",
    ],
)
def test_other_spellings_mean_the_same(text):
    assert parse_descriptor(text) == L16


def test_an_unnamed_batch_is_two_images():
    assert parse_descriptor("ic128oc128_ih28oh28kh3ph1").batch == 2


def test_unnamed_groups_stride_dilation_and_padding_are_plain():
    problem = parse_descriptor("ic8oc8ih10kh3")
    plain = (problem.groups, problem.stride, problem.dilation, problem.padding)
    assert plain == (1, (1, 1), (1, 1), (0, 0, 0, 0))


def test_dilation_counts_from_zero():
    assert parse_descriptor("ic8oc8ih10kh3dh2").dilation == (3, 3)


def test_width_is_as_height_when_nothing_of_it_is_named():
    problem = parse_descriptor("ic8oc8ih11kh3sh2dh1ph2")
    assert (problem.width, problem.kernel, problem.stride, problem.dilation) == (11, (3, 3), (2, 2), (2, 2))
    assert problem.padding[:2] == problem.padding[2:]


@pytest.mark.parametrize(
    ("text", "output"), [("ic1oc1ih28kh3ph1", 28), ("ic1oc1ih28kh3sh2ph1", 14), ("ic1oc1ih28kh3dh1", 24)]
)
def test_the_output_follows_from_the_padding(text, output):
    assert parse_descriptor(text).out_height == output


@pytest.mark.parametrize(
    ("text", "padding"),
    [
        ("ic1oc1ih28oh28kh3", (1, 1)),
        ("ic1oc1ih28oh26kh3", (0, 0)),
        ("ic1oc1ih224oh112kh7sh2", (2, 3)),
        ("ic1oc1ih28oh28kh2", (0, 1)),
        ("ic1oc1ih28oh13kh3sh2", (0, 0)),
        ("ic1oc1ih28oh28kh3dh1", (2, 2)),
        ("ic1oc1ih28oh28kh3ph2", (2, 0)),
    ],
)
def test_the_padding_follows_from_the_output(text, padding):
    assert parse_descriptor(text).padding == (*padding, *padding)


@pytest.mark.parametrize("dtype", list(DType))
@pytest.mark.parametrize("layout", list(Layout))
def test_dtype_and_layout_stand_beside_the_descriptor(dtype, layout):
    assert parse_descriptor(L16.descriptor, dtype, layout) == replace(L16, dtype=dtype, layout=layout)


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 0, "ic is missing"),
        ("mb1_oc8ih8kh3", 13, "ic is missing"),
        ("ic8ih8kh3", 9, "oc is missing"),
        ("ic8oc8kh3", 9, "ih is missing"),
        ("ic8oc8ih8", 9, "kh is missing"),
        ("ic8oc8ih8kh3iw8", 15, "kw is missing"),
        ("ic8oc8ih8kh3kw3", 15, "iw is missing"),
        ("ic8oc8ih8kh3sw2", 15, "iw is missing"),
        ("ic8oc8ih8kh", 11, "kh needs a number"),
        ("ic8oc8ih8kh_3", 11, "kh needs a number"),
        ("icx8", 2, "ic needs a number"),
        ("hello", 0, "expected a field"),
        ("ic8oc8 ih8kh3", 6, "expected a field"),
        ("ic8oc8xh8", 6, "expected a field"),
        ('n"conv1"', 0, "expected a field"),
        ("IC8", 0, "expected a field"),
        ("ic-8", 2, "ic needs a number"),
        ("ic8oc8ic8", 6, "ic is given twice"),
        ("ic8oc8id8", 6, "id belongs to 3-D"),
        ("ic8oc8ih8kh3kd3", 12, "kd belongs to 3-D"),
        ("ic8oc1234567890", 5, "oc is too large"),
        ("ic٣oc8ih8kh3", 2, "ic needs a number"),
    ],
)
def test_an_unreadable_descriptor_is_refused_at_its_position(text, position, why):
    with pytest.raises(DescriptorError, match=why) as caught:
        parse_descriptor(text)
    assert caught.value.position == position
    assert f"character {position + 1}:" in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mb0ic8oc8ih8kh3", "batch=0"),
        ("g0ic8oc8ih8kh3", "groups=0"),
        ("g3ic8oc9ih8kh3", "groups=3 does not divide in_channels=8"),
        ("ic0oc8ih8kh3", "in_channels=0"),
        ("ic8oc8ih8kh0", "kernel=.* must be"),
        ("ic8oc8ih2kh3", "larger than the padded input: height 2"),
        ("ic8oc8ih8kh3sh0", "sh0?.*stride must be at least 1"),
        ("ic8oc8ih8oh0kh3ph0", "oh0 does not follow from ih8 with padding 0"),
        ("ic8oc8ih8oh3kh3ph1", "oh3 does not follow from ih8 with padding 1"),
        ("ic8oc8ih8kh3iw8ow9kw3pw4", "ow9 does not follow from iw8 with padding 4"),
    ],
)
def test_numbers_that_do_not_fit_together_are_named(text, why):
    with pytest.raises(InvalidProblem, match=why) as caught:
        parse_descriptor(text)
    assert not isinstance(caught.value, DescriptorError)


_PIECES = [
    "mb",
    "g",
    "ic",
    "oc",
    "ih",
    "oh",
    "kh",
    "sh",
    "dh",
    "ph",
    "iw",
    "ow",
    "kw",
    "sw",
    "dw",
    "pw",
    "id",
    "n",
    "_",
]


def _reads_or_refuses(text):
    try:
        problem = parse_descriptor(text)
    except InvalidProblem:
        return
    assert parse_descriptor(problem.descriptor) == problem


@given(st.text())
def test_any_text_is_read_or_refused(text):
    _reads_or_refuses(text)


@given(st.lists(st.tuples(st.sampled_from(_PIECES), st.one_of(st.integers(0, 40), st.just(""))), max_size=14))
def test_any_fields_are_read_or_refused(fields):
    _reads_or_refuses("".join(f"{name}{number}" for name, number in fields))


@given(problems(), st.integers(0, 60), st.sampled_from("0123456789_ihoxn ²"))
def test_a_slip_of_a_finger_is_read_or_refused(problem, position, typed):
    text = problem.descriptor
    _reads_or_refuses(text[:position] + typed + text[position:])
