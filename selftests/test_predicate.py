import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.predicate import FIELDS, PredicateError, holds, require_sound
from selftests.strategies import problems

PROBLEM = ConvProblem(
    in_channels=64,
    height=28,
    width=14,
    out_channels=100,
    kernel=(3, 5),
    batch=2,
    stride=(1, 2),
    padding=(1, 1, 2, 2),
    groups=2,
    dtype=DType.FLOAT16,
    layout=Layout.NHWC,
)


@pytest.mark.parametrize(
    "text",
    [
        "batch == 2",
        "groups == 2",
        "in_channels == 64",
        "out_channels == 100",
        "height == 28",
        "width == 14",
        "kernel_h == 3",
        "kernel_w == 5",
        "stride_h == 1",
        "stride_w == 2",
        "not depthwise",
        f"macs == {PROBLEM.macs}",
        "dtype == 'float16'",
        "layout == 'NHWC'",
    ],
)
def test_a_field_is_the_problems(text):
    assert holds(text, PROBLEM)
    assert not holds(f"not ({text})", PROBLEM)


def test_every_field_can_be_asked_for_by_name():
    assert all(holds(f"{name} in [{name}]", PROBLEM) for name in FIELDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out_channels % 8 != 0", True),
        ("out_channels % 4 != 0", False),
        ("out_channels % 8 != 0 and groups == 1", False),
        ("out_channels % 8 != 0 or groups == 1", True),
        ("64 < out_channels <= 100", True),
        ("64 < out_channels < 100", False),
        ("out_channels >= 100 > in_channels", True),
        ("out_channels in (99, 100)", True),
        ("out_channels not in [99, 100]", False),
        ("out_channels + in_channels - 4 == 2 * 80", True),
        ("out_channels // 16 == 6", True),
        ("dtype in ('float16', 'bfloat16')", True),
        (" 1 ", True),
        ("0", False),
        ("groups == 1 or groups == 2 and batch == 3", False),
    ],
)
def test_a_predicate_means_what_it_means_in_python(text, expected):
    assert holds(text, PROBLEM) is expected


def test_depthwise_is_the_problems_own_word():
    assert holds("depthwise", replace(PROBLEM, in_channels=4, groups=4))
    assert not holds("depthwise", PROBLEM)


@given(problems(), st.integers(1, 16))
def test_arithmetic_agrees_with_pythons(problem, quantum):
    text = f"out_channels % {quantum} != 0 and in_channels // {quantum} > 2"
    assert holds(text, problem) is (problem.out_channels % quantum != 0 and problem.in_channels // quantum > 2)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("channels == 3", "no field 'channels' .known: batch, groups"),
        ("groups == 7 and chanels == 3", "no field 'chanels'"),
        ("groups == 2 or chanels == 3", "no field 'chanels'"),
        ("__import__('os')", "no field '__import__'"),
        ("groups == 7 and print(1)", "no field 'print'"),
        ("batch(1)", r"'batch\(1\)' is not allowed"),
        ("batch.real", r"'batch.real' is not allowed"),
        ("out_channels ** 2", r"'out_channels \*\* 2' is not allowed"),
        ("out_channels / 2", "'out_channels / 2' is not allowed"),
        ("[batch for batch in (1, 2)]", "'.batch for batch in .1, 2..' is not allowed"),
        ("lambda: 1", "'lambda ?: 1' is not allowed"),
        ("0.5 < batch", "'0.5' is not allowed"),
        ("batch is 2", "'batch is 2' is not allowed"),
        ("out_channels % 0", "zero"),
        ("out_channels < 'a'", "not supported"),
        ("batch in 3", "not iterable"),
        ("'x' * 9000000000 == 'x'", "only whole numbers"),
        ("'%9000000000d' % 1 == 'x'", "only whole numbers"),
        ("[1] * 9000000000 == [1]", "only whole numbers"),
        ("out_channels %", r"character \d+:"),
        ("out_channels = 3", "character 14:"),
        ("", "character"),
    ],
)
def test_what_is_not_in_the_language_is_refused_by_its_part(text, part):
    with pytest.raises(PredicateError, match=part) as caught:
        holds(text, PROBLEM)
    assert repr(text) in str(caught.value)


@given(st.one_of(st.text(), st.text(alphabet="abcegoprsu_hintl0129 %<>=!()[],'+-*/.:&|~@\0")))
def test_any_text_is_true_false_or_refused(text):
    with contextlib.suppress(PredicateError):
        assert holds(text, PROBLEM) in (True, False)
    with contextlib.suppress(PredicateError):
        require_sound(text, PROBLEM)
        assert holds(text, PROBLEM) in (True, False)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("dtype == 'ü' and chanels", "chanels"),
        ("  (groups == 2\n   or chanels)", "chanels"),
        ("groups == 2 or 3 < 'a'", "3 <"),
        ("groups == 2 or\tbatch(1)", "batch(1)"),
        ("groups == 2 or batch % 0", "batch % 0"),
    ],
)
def test_a_mistake_is_found_where_it_is_though_nothing_would_reach_it(text, part):
    with pytest.raises(PredicateError) as caught:
        require_sound(text, PROBLEM)
    assert text[caught.value.position :].startswith(part)


def test_further_fields_are_asked_for_like_a_problems_own():
    assert holds("kept == 3 and groups == 2", PROBLEM, {"kept": 3})
    with pytest.raises(PredicateError, match="no field 'kept'"):
        holds("kept == 3", PROBLEM)
