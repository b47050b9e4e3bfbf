"""What follows a convolution in the same call: its words, its tensors, its reference, and how it is selected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import backends
from neverslower.baseline.entry import Entry, Known
from neverslower.baseline.scope import Scope
from neverslower.errors import CannotPrune, InvalidProblem, NeverSlowerError
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import Code
from neverslower.option_table import OPTIONS
from neverslower.option_values import post_ops as read_post_ops
from neverslower.options import plan
from neverslower.problem import numerics, reference
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, kept_channels, parse_descriptor
from neverslower.problem.epilogue import NOTHING, PLAIN, Added, Epilogue, PostOp, applied, post_ops
from neverslower.problem.numerics import added_tensors, convolve, pruned_added_tensors, pruned_tensors
from neverslower.problem.predicate import holds
from neverslower.problem.selection import Selection
from selftests.conftest import SuiteRunner
from selftests.strategies import problems, small_problems
from selftests.support import problem

SUM, RELU, SWISH = PostOp.SUM, PostOp.RELU, PostOp.SWISH
EPILOGUES = [
    Epilogue(bias, steps)
    for bias in (False, True)
    for steps in ((), (RELU,), (SWISH,), (SUM,), (SUM, RELU), (RELU, SUM), (SUM, SWISH), (SWISH, SUM))
]
BEHIND = EPILOGUES[1:]
"""Every epilogue that is not empty."""
FULL = Epilogue(True, (SUM, RELU))


# Words


@pytest.mark.parametrize("epilogue", BEHIND, ids=str)
def test_what_is_printed_is_read_back(epilogue: Epilogue) -> None:
    assert Epilogue.parse(str(epilogue)) == epilogue
    assert epilogue


def test_an_empty_epilogue_is_false_and_prints_nothing() -> None:
    assert not PLAIN
    assert str(PLAIN) == ""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("relu", (RELU,)),
        ("relu:0", (RELU,)),
        ("swish:1", (SWISH,)),
        ("silu", (SWISH,)),
        ("sum", (SUM,)),
        ("sum:1+relu", (SUM, RELU)),
        ("relu + sum", (RELU, SUM)),
    ],
)
def test_spellings_of_benchdnn_and_torch_are_read(text: str, steps: tuple[PostOp, ...]) -> None:
    assert post_ops(text) == steps == read_post_ops(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tanh", "'tanh' is not one of the post-ops sum, relu, swish:1, joined as in sum"),
        ("swish", "write swish:1 or silu"),
        ("relu:0.1", "'relu:0.1' is not one of"),
        ("", "'' is not one of"),
        ("relu+", "'' is not one of"),
        ("relu,sum", "'relu,sum' is not one of"),
        ("relu+silu", "at most one residual .sum. and one activation"),
        ("sum+sum", "at most one residual .sum. and one activation"),
    ],
)
def test_what_is_no_post_op_is_answered_with_the_known_ones(text: str, told: str) -> None:
    with pytest.raises(NeverSlowerError, match=rf"^--post-ops '{text.replace('+', '.')}': .*{told}"):
        read_post_ops(text)


@pytest.mark.parametrize("fields", [{"bias": 1}, {"post_ops": ("relu",)}])
def test_other_types_are_refused(fields: Any) -> None:
    with pytest.raises(InvalidProblem, match="must be PostOps"):
        Epilogue(**fields)


# In a problem


@given(problems(), st.sampled_from(EPILOGUES))
def test_the_key_names_the_epilogue(plain: ConvProblem, epilogue: Epilogue) -> None:
    fused = replace(plain, epilogue=epilogue)
    assert ConvProblem.from_key(fused.key) == fused
    assert (fused.key == plain.key) == (fused == plain) == (not epilogue)


def test_a_plain_layer_keeps_its_key() -> None:
    assert problem().key == "mb1_g1ic8oc16_ih6oh6kh3sh1ph1-float32-NCHW"
    assert replace(problem(), epilogue=FULL).key == f"{problem().key}-bias+sum+relu"
    assert str(replace(problem(), epilogue=FULL)) == "mb1_g1ic8oc16_ih6oh6kh3sh1ph1 float32 NCHW bias+sum+relu"


@pytest.mark.parametrize("behind", ["-", "-gelu", "-relu-relu", "-bias+", "-relu+bias", "-bias+bias"])
def test_a_key_with_another_epilogue_is_refused(behind: str) -> None:
    with pytest.raises(InvalidProblem, match="is not a problem's key"):
        ConvProblem.from_key(f"{problem().key}{behind}")


def test_a_bare_text_is_no_epilogue() -> None:
    with pytest.raises(InvalidProblem, match="epilogue='relu' must be an Epilogue"):
        problem(epilogue="relu")


@pytest.mark.parametrize("side", Side)
def test_pruning_keeps_what_follows(side: Side) -> None:
    fused = replace(problem(), epilogue=FULL)
    assert fused.prune(2, side).epilogue == FULL


def test_bytes_and_elements_hold_what_is_added() -> None:
    plain, fused = problem(), replace(problem(), epilogue=FULL)
    assert fused.elements - plain.elements == 16 + 16 * 6 * 6
    assert fused.bytes - plain.bytes == 4 * (16 + 16 * 6 * 6)


def test_a_predicate_sees_it() -> None:
    fused = replace(problem(), epilogue=FULL)
    assert holds("bias and 'relu' in post_ops and post_ops == 'sum+relu'", fused)
    assert not holds("bias or post_ops != ''", problem())


# Tensors and reference


@settings(max_examples=60, deadline=None)
@given(small_problems(), st.sampled_from(EPILOGUES))
def test_the_reference_is_the_epilogue_written_out(plain: ConvProblem, epilogue: Epilogue) -> None:
    fused = replace(plain, epilogue=epilogue)
    tensors, added = numerics.tensors(plain), added_tensors(fused)
    expected = convolve(plain, *tensors)
    for index in np.ndindex(expected.shape):
        value = expected[index] + (0.0 if added.bias is None else float(added.bias[index[1]]))
        for step in epilogue.post_ops:
            if step is SUM:
                assert added.residual is not None
                value += float(added.residual[index])
            else:
                value = max(value, 0.0) if step is RELU else value / (1 + np.exp(-value))
        expected[index] = value
    np.testing.assert_allclose(convolve(fused, *tensors, added), expected, atol=1e-12)


@pytest.mark.parametrize("epilogue", BEHIND, ids=str)
@pytest.mark.parametrize("dtype", DType)
def test_an_output_that_lacks_any_part_is_wrong_at_any_depth(epilogue: Epilogue, dtype: DType) -> None:
    deep = parse_descriptor("mb1_ic512oc24_ih5kh3ph1", dtype)
    fused = replace(deep, epilogue=epilogue)
    tensors, added = numerics.tensors(fused), added_tensors(fused)
    right = convolve(fused, *tensors, added)
    assert numerics.References().error(fused, *tensors, right)[0] == 0
    for less in _without_a_part(epilogue):
        kept = Added(added.bias if less.bias else None, added.residual if less.residual else None)
        output = convolve(replace(deep, epilogue=less), *tensors, kept)
        assert numerics.References().error(fused, *tensors, output)[0] > 5 * numerics.TOLERANCES[dtype]


def _without_a_part(epilogue: Epilogue) -> list[Epilogue]:
    less = [Epilogue(False, epilogue.post_ops)] if epilogue.bias else []
    return less + [
        Epilogue(epilogue.bias, tuple(step for step in epilogue.post_ops if step is not left))
        for left in epilogue.post_ops
    ]


@pytest.mark.parametrize("epilogue", BEHIND, ids=str)
def test_missing_and_idle_tensors_are_errors(epilogue: Epilogue) -> None:
    fused = replace(problem(), epilogue=epilogue)
    added = added_tensors(fused)
    if epilogue.bias or epilogue.residual:
        with pytest.raises(ValueError, match="does not take these tensors"):
            convolve(fused, *numerics.tensors(fused))
    with pytest.raises(ValueError, match="does not take these tensors"):
        applied(PLAIN, np.zeros((1, 16, 6, 6)), Added(np.zeros(16, np.float32), added.residual))


def test_swish_far_below_zero_is_zero() -> None:
    output = applied(Epilogue(post_ops=(SWISH,)), np.full((1, 1, 1, 1), -1000.0), NOTHING)
    assert output.item() == 0


@settings(max_examples=60, deadline=None)
@given(small_problems(), st.integers(1, 12), st.sampled_from(Side), st.sampled_from(EPILOGUES))
def test_a_pruned_layer_gives_the_kept_channels_of_the_unpruned_one(
    plain: ConvProblem, distance: int, side: Side, epilogue: Epilogue
) -> None:
    whole = replace(plain, epilogue=epilogue)
    try:
        part = whole.prune(distance, side)
    except CannotPrune:
        assume(False)
    tensors, added = pruned_tensors(whole, part), pruned_added_tensors(whole, part)
    expected, output = (
        convolve(one, *own, behind) for one, own, behind in zip((whole, part), tensors, added, strict=True)
    )
    np.testing.assert_allclose(output, expected[:, kept_channels(whole, part)[1]], atol=1e-12)


@pytest.mark.parametrize("epilogue", BEHIND, ids=str)
def test_references_of_pruned_layers_begin_the_unpruned_one_s(epilogue: Epilogue) -> None:
    references, whole = numerics.References(), problem(batch=2, epilogue=epilogue)
    for layer in (whole, whole.prune(3), replace(whole, epilogue=PLAIN), whole.prune(5)):
        expected = convolve(layer, *numerics.tensors(layer), added_tensors(layer))
        np.testing.assert_allclose(references.expected(layer, *numerics.tensors(layer)), expected, atol=1e-12)


@pytest.mark.parametrize("epilogue", BEHIND, ids=str)
def test_a_sample_is_of_the_whole_epilogue(epilogue: Epilogue, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = parse_descriptor("mb2_g2ic8oc12_ih9kh3ph1")
    layer = replace(layer, epilogue=epilogue)
    monkeypatch.setattr(reference, "WHOLE_MACS", 10)
    monkeypatch.setattr(reference, "SAMPLED_MACS", 20_000)
    at = reference.sample_of(layer)
    assert at is not None
    assert at.share(layer) < 1
    tensors, added = numerics.tensors(layer), added_tensors(layer)
    whole = convolve(layer, *tensors, added)
    np.testing.assert_allclose(reference.convolve_at(layer, *tensors, at, added), at.of(whole), atol=1e-12)
    assert numerics.References().error(layer, *tensors, whole)[0] < 1e-12


@pytest.mark.parametrize("dtype", DType)
def test_added_values_are_those_that_the_dtype_holds(dtype: DType) -> None:
    added = added_tensors(problem(dtype=dtype, epilogue=FULL))
    for values in (added.bias, added.residual):
        assert values is not None
        assert np.array_equal(values, numerics.quantise(values, dtype))


# Selected


def chosen(**fields: Any) -> dict[str, str]:
    selection = Selection(layers=("resnet50.L16", "resnet50.L3"), **fields)
    return {layer.name: str(layer.problem.epilogue) for layer in selection.places()}


def test_every_chosen_layer_gets_what_was_chosen() -> None:
    assert set(chosen().values()) == {""}
    assert set(chosen(bias=True).values()) == {"bias"}
    assert set(chosen(post_ops=(SUM, RELU)).values()) == {"sum+relu"}
    assert set(chosen(bias=True, post_ops=(SWISH,), batches=(8,)).values()) == {"bias+swish:1"}


def test_ids_carry_it_and_every_place_is_named() -> None:
    selection = Selection(layers=("resnet50.L16",), bias=True, post_ops=(RELU,))
    comparisons = selection.comparisons("scripted", [(DType.FLOAT32, Layout.NCHW)])
    assert comparisons[1].id == "scripted-resnet50.L16-float32-NCHW-bias+relu-out127"
    assert comparisons[1].candidate.epilogue == comparisons[1].reference.epilogue == Epilogue(True, (RELU,))
    assert len(comparisons[1].layer.places) > 1


def test_what_a_baseline_holds_of_plain_layers_is_not_missed_by_a_run_of_others() -> None:
    formats = {"scripted": [(DType.FLOAT32, Layout.NCHW)]}
    plain, fused = (Selection(layers=("resnet50.L16",), bias=bias) for bias in (False, True))
    comparison = plain.comparisons("scripted", formats["scripted"])[1]
    name = comparison.layer.name
    entry = Entry(f"[{name}]", name, *comparison.keys, Side.OUT, Plan("p"), (), Known(Code.SAME, None))
    assert Scope({"scripted": plain}, formats).holds("scripted", entry)
    assert not Scope({"scripted": fused}, formats).holds("scripted", entry)


def test_what_is_drawn_in_a_hunt_has_it_too() -> None:
    values = {option.key: option.default for option in OPTIONS} | {"backend": ["scripted"], "bias": True}
    assert plan(values | {"post-ops": "silu"}).space("scripted").epilogue == Epilogue(True, (SWISH,))
    assert plan(values | {"bias": False}).space("scripted").epilogue == PLAIN


def test_a_backend_without_it_refuses_it_in_words() -> None:
    for name in ("tvm", "acl"):
        capabilities = backends.load(name).CAPABILITIES
        assert (
            capabilities.refusal(problem(epilogue=FULL)) == "no bias and no post-ops in the same call (bias+sum+relu)"
        )
        assert capabilities.refusal(problem()) is None


def test_a_run_measures_it_and_says_how_to_measure_it_again(runner: SuiteRunner) -> None:
    rules = [{"when": "post_ops == 'sum+relu' and bias and out_channels == 15", "times": 2.0}]
    options = ("--bias", "--post-ops", "sum+relu", "--strict-verdicts")
    result = runner.run({"rules": rules}, *options)
    result.stdout.fnmatch_lines(
        [
            "*15 of 16 output channels (distance 1)",
            "  problem   * float32 NCHW bias+sum+relu",
            "  again     *float32-NCHW-bias+sum+relu-out15*--bias --post-ops=sum+relu*",
        ]
    )
    assert runner.run({"rules": rules}, "--strict-verdicts").ret == 0


def test_a_mistake_in_the_option_is_one_clear_line(runner: SuiteRunner) -> None:
    result = runner.run({}, "--post-ops", "gelu")
    result.stderr.fnmatch_lines(["*--post-ops 'gelu': 'gelu' is not one of the post-ops sum, relu, swish:1*"])
