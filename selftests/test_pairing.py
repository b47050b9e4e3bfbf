"""How the layers of a pruned model are paired with those of its original, and what is compared of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.errors import UnknownName
from neverslower.problem.comparison import Comparison, padded_selves
from neverslower.problem.convolution import DType, Layout, Side, parse_descriptor
from neverslower.problem.epilogue import Epilogue, PostOp
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.problem.pairing import By, Pairing, _longest, difference, pair_models
from neverslower.problem.selection import Selection
from neverslower.report import pairs as report

PLAIN = (DType.FLOAT32, Layout.NCHW)
ORIGINAL = {
    "stem": "mb1_ic3oc16_ih8kh3ph1",
    "a.conv1": "mb1_ic16oc16_ih8kh3ph1",
    "a.conv2": "mb1_ic16oc32_ih8kh1",
    "b.conv1": "mb1_ic32oc32_ih8kh3ph1",
}
PRUNED = {
    "stem": "mb1_ic3oc14_ih8kh3ph1",
    "a.conv1": "mb1_ic14oc14_ih8kh3ph1",
    "a.conv2": "mb1_ic14oc32_ih8kh1",
    "b.conv1": "mb1_ic32oc32_ih8kh3ph1",
}


def model(name: str, layers: dict[str, str]) -> Model:
    """A model of these descriptors, by place."""
    flag = "--pruned" if name == "pruned" else "--model"
    source = (flag, f"{name}.py:build", "--input", "1x3x8x8")
    made = (Layer(name, None, place, parse_descriptor(text), source=source) for place, text in layers.items())
    return Model(name, tuple(made), source=source)


def paired(original: dict[str, str], pruned: dict[str, str]) -> Pairing:
    return pair_models(model("original", original), model("pruned", pruned))


def places(pairing: Pairing) -> list[tuple[str, str, By]]:
    return [(pair.original.place, pair.pruned.place, pair.by) for pair in pairing.pairs]


def selected(original: dict[str, str], pruned: dict[str, str], *patterns: str) -> Selection:
    return Selection(models=(model("original", original),), pruned=model("pruned", pruned), layers=patterns)


# Pairing


def test_layers_of_equal_names_are_pairs() -> None:
    pairing = paired(ORIGINAL, PRUNED)
    assert places(pairing) == [(place, place, By.NAME) for place in ORIGINAL]
    assert [pair.side for pair in pairing.changed] == [Side.OUT, Side.TOGETHER, Side.IN]
    assert [pair.original.place for pair in pairing.pairs if pair.unchanged] == ["b.conv1"]
    assert pairing.unpaired == ()


def test_where_no_name_is_equal_the_order_pairs() -> None:
    renamed = {f"net.{number}": text for number, text in enumerate(PRUNED.values())}
    pairing = paired(ORIGINAL, renamed)
    assert places(pairing) == [(place, f"net.{number}", By.ORDER) for number, place in enumerate(ORIGINAL)]
    assert "original → pruned: paired by order, since the names differ: stem → net.0" in "\n".join(
        report.lines(pairing)
    )


def test_a_block_that_is_gone_has_no_pair() -> None:
    pairing = paired(ORIGINAL, {place: text for place, text in PRUNED.items() if not place.startswith("b.")})
    (left,) = pairing.unpaired
    assert left.layer.name == "original.b.conv1"
    assert left.why == "pruned has no layer of this name, nor one that can be it by order"
    assert len(pairing.pairs) == 3


def test_by_order_too_a_block_may_be_gone_where_only_one_can_be_it() -> None:
    renamed = {f"net.{number}": text for number, text in enumerate(list(PRUNED.values())[:3])}
    pairing = paired(ORIGINAL, renamed)
    assert places(pairing) == [(place, f"net.{number}", By.ORDER) for number, place in enumerate(list(ORIGINAL)[:3])]
    assert [left.layer.place for left in pairing.unpaired] == ["b.conv1"]


def test_what_could_be_either_of_two_layers_is_not_guessed() -> None:
    same = "mb1_ic16oc16_ih8kh3ph1"
    pairing = paired({"x.0": same, "x.1": same}, {"y.0": "mb1_ic16oc14_ih8kh3ph1"})
    assert pairing.pairs == ()
    assert {left.layer.name: left.why for left in pairing.unpaired} == {
        "original.x.0": "pruned has no layer of this name, and the order leaves open whether it is pruned.y.0",
        "original.x.1": "pruned has no layer of this name, and the order leaves open whether it is pruned.y.0",
        "pruned.y.0": "original has no layer of this name, and the order leaves open whether it is original.x.0 or "
        "original.x.1",
    }


def test_by_order_no_layer_of_equal_names_is_passed() -> None:
    same = "mb1_ic16oc16_ih8kh3ph1"
    pairing = paired({"x": same, "stem": same}, {"stem": same, "y": same})
    assert places(pairing) == [("stem", "stem", By.NAME)]
    assert {left.layer.name for left in pairing.unpaired} == {"original.x", "pruned.y"}


def test_by_order_no_layer_grows() -> None:
    assert paired({"x": "mb1_ic8oc8_ih8kh1"}, {"y": "mb1_ic8oc9_ih8kh1"}).pairs == ()


def test_a_1x1_in_a_layers_place_is_listed_on_both_sides() -> None:
    pairing = paired(ORIGINAL, PRUNED | {"b.conv1": "mb1_ic32oc32_ih8kh1"})
    why = "the layers of this name differ in more than channels: kernel 3×3 → 1×1, padding 1 → 0"
    assert [(left.layer.name, left.why) for left in pairing.unpaired] == [
        ("original.b.conv1", why),
        ("pruned.b.conv1", why),
    ]


def chains(fits: list[list[bool]], row: int = 0, column: int = 0) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way to align rows with columns where they fit, from a row and a column on."""
    yield ()
    for i in range(row, len(fits)):
        for j in range(column, len(fits[i])):
            if fits[i][j]:
                yield from (((i, j), *rest) for rest in chains(fits, i + 1, j + 1))


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width))))
def test_a_rank_of_one_fit_is_what_all_longest_alignments_have_in_common(fits: list[list[bool]]) -> None:
    every = list(chains(fits[:4]))
    longest = [set(chain) for chain in every if len(chain) == max(map(len, every))]
    by_rank: dict[int, list[tuple[int, int]]] = {}
    for rank, row, column in _longest(fits[:4]):
        by_rank.setdefault(rank, []).append((row, column))
    assert {cells[0] for cells in by_rank.values() if len(cells) == 1} == set.intersection(*longest)
    assert {cell for cells in by_rank.values() for cell in cells} == set.union(*longest)


@pytest.mark.parametrize(
    ("whole", "part", "text"),
    [
        ("mb1_ic8oc8_ih8kh3ph1", "mb1_ic7oc5_ih8kh3ph1", ""),
        ("mb1_g8ic8oc8_ih8kh3ph1", "mb1_g7ic7oc7_ih8kh3ph1", ""),
        ("mb1_g4ic8oc16_ih8kh3ph1", "mb1_g3ic6oc12_ih8kh3ph1", ""),
        ("mb1_g4ic8oc16_ih8kh3ph1", "mb1_g4ic8oc12_ih8kh3ph1", ""),
        ("mb1_g4ic8oc16_ih8kh3ph1", "mb1_g2ic8oc16_ih8kh3ph1", "groups 4 → 2"),
        ("mb1_ic8oc8_ih8kh3ph1", "mb1_ic8oc8_ih4kh3ph1", "image 8×8 → 4×4"),
        ("mb1_ic8oc8_ih8kh3ph1", "mb2_ic8oc8_ih8kh3ph1", "images 1 → 2"),
        ("mb1_ic8oc8_ih9kh3ph1", "mb1_ic8oc8_ih9kh3sh2ph1", "stride 1×1 → 2×2"),
        ("mb1_ic8oc8_ih9kh3ph1", "mb1_ic8oc8_ih9kh3dh1ph2", "padding 1 → 2, dilation 1×1 → 2×2"),
    ],
)
def test_a_pair_differs_in_channels_alone(whole: str, part: str, text: str) -> None:
    assert difference(parse_descriptor(whole), parse_descriptor(part)) == text


@pytest.mark.parametrize(
    ("whole", "part", "side"),
    [
        ("mb1_g8ic8oc8_ih8kh3ph1", "mb1_g7ic7oc7_ih8kh3ph1", Side.OUT),
        ("mb1_g4ic8oc16_ih8kh3ph1", "mb1_g3ic6oc12_ih8kh3ph1", Side.TOGETHER),
        ("mb1_g4ic8oc16_ih8kh3ph1", "mb1_g4ic4oc16_ih8kh3ph1", Side.IN),
    ],
)
def test_whole_groups_that_went_are_a_side(whole: str, part: str, side: Side) -> None:
    (pair,) = paired({"x": whole}, {"x": part}).changed
    assert pair.side is side


def test_more_channels_than_the_original_are_said_and_compared() -> None:
    pairing = paired({"x": "mb1_ic8oc8_ih8kh1"}, {"x": "mb1_ic8oc10_ih8kh1"})
    (pair,) = pairing.changed
    assert pair.compared("scripted", ()).grown
    assert "more channels than the original: x (10 instead of 8 output channels)" in "\n".join(report.lines(pairing))
    assert padded_selves(pair.compared("scripted", ())) == []


# What is compared


def test_each_pair_is_compared_with_its_original_which_is_timed_too() -> None:
    made = selected(ORIGINAL, PRUNED).comparisons("scripted", [PLAIN])
    assert [comparison.id for comparison in made] == [
        "scripted-original.stem-float32-NCHW-out16",
        "scripted-original.stem-float32-NCHW-out14",
        "scripted-original.a.conv1-float32-NCHW-out16",
        "scripted-original.a.conv1-float32-NCHW-together14",
        "scripted-original.a.conv2-float32-NCHW-out32",
        "scripted-original.a.conv2-float32-NCHW-in14",
    ]
    conv1 = made[3]
    assert conv1.reference == parse_descriptor(ORIGINAL["a.conv1"])
    assert conv1.candidate == parse_descriptor(PRUNED["a.conv1"])
    assert conv1.channels == "14 of 16 output and 14 of 16 input channels"


def test_what_has_no_pair_is_timed_by_itself() -> None:
    pruned = {place: text for place, text in PRUNED.items() if place != "a.conv2"} | {"fused": "mb1_ic14oc30_ih8kh1sh2"}
    made = selected(ORIGINAL, pruned).comparisons("scripted", [PLAIN])
    alone = [comparison.layer.name for comparison in made if comparison.against_itself]
    assert alone == ["original.stem", "original.a.conv1", "original.a.conv2", "pruned.fused"]


def test_equal_pairs_are_measured_once_and_named_at_every_place() -> None:
    same, part, other = "mb1_ic16oc16_ih8kh3ph1", "mb1_ic16oc14_ih8kh3ph1", "mb1_ic16oc13_ih8kh3ph1"
    selection = selected({"x": same, "y": same, "z": same}, {"x": part, "y": part, "z": other})
    compared = [one for one in selection.comparisons("scripted", [PLAIN]) if not one.against_itself]
    assert [(one.layer.name, one.layer.places) for one in compared] == [
        ("original.x", ("original.x", "original.y")),
        ("original.z", ("original.z",)),
    ]
    (whole,) = [one for one in selection.comparisons("scripted", [PLAIN]) if one.against_itself]
    assert whole.layer.places == ("original.x", "original.y", "original.z")
    (chosen,) = [
        one for one in replace(selection, layers=("y",)).comparisons("scripted", [PLAIN]) if not one.against_itself
    ]
    assert (chosen.layer.name, chosen.layer.places) == ("original.y", ("original.x", "original.y"))


def test_patterns_choose_among_both_models_and_nothing_else() -> None:
    selection = selected(ORIGINAL, PRUNED, "a.*")
    assert {one.layer.place for one in selection.comparisons("scripted", [PLAIN])} == {"a.conv1", "a.conv2"}
    with pytest.raises(UnknownName, match=r"no layer matches 'resnet50\.L16'; the model has such as"):
        selected(ORIGINAL, PRUNED, "resnet50.L16").places()


def test_an_unknown_layer_is_answered_with_names_of_both_models() -> None:
    added = PRUNED | {"adapter": PRUNED["stem"]}
    with pytest.raises(UnknownName, match=r"no layer matches 'adaptor'; the model has such as adapter, "):
        selected(ORIGINAL, added, "adaptor").places()


def test_batches_and_formats_hold_for_both_models() -> None:
    formats = [PLAIN, (DType.BFLOAT16, Layout.NHWC)]
    made = replace(selected(ORIGINAL, PRUNED, "stem"), batches=(1, 4)).comparisons("scripted", formats)
    compared = [one for one in made if not one.against_itself]
    assert [one.id for one in compared] == [
        "scripted-original.stem-float32-NCHW-out14",
        "scripted-original.stem@4-float32-NCHW-out14",
        "scripted-original.stem-bfloat16-NHWC-out14",
        "scripted-original.stem@4-bfloat16-NHWC-out14",
    ]
    for one in compared:
        assert replace(one.reference, out_channels=14) == one.candidate


def followed(model: Model, *steps: PostOp) -> Model:
    """The model with a bias and these post-ops behind each of its layers."""
    return replace(model, layers=tuple(layer.with_epilogue(Epilogue(True, steps)) for layer in model.layers))


def test_layers_are_paired_with_what_is_chosen_to_follow_them() -> None:
    whole = followed(model("original", {"x": "mb1_ic8oc8_ih8kh1"}), PostOp.RELU)
    part = followed(model("pruned", {"x": "mb1_ic8oc6_ih8kh1"}), PostOp.SWISH)
    apart = Selection(models=(whole,), pruned=part)
    assert apart.pairing is not None
    assert "what follows bias+relu → bias+swish:1" in apart.pairing.unpaired[0].why
    together = replace(apart, post_ops=(PostOp.SUM,), batches=(4,))
    compared = [one for one in together.comparisons("scripted", [PLAIN]) if not one.against_itself]
    assert [one.id for one in compared] == ["scripted-original.x@4-float32-NCHW-bias+sum-out6"]
    assert compared[0].reference.epilogue == compared[0].candidate.epilogue == Epilogue(True, (PostOp.SUM,))


# Padding


@pytest.mark.parametrize(
    ("whole", "part", "side", "counts"),
    [
        ("ic128oc128", "ic113oc113", Side.TOGETHER, [(120, 120), (128, 128)]),
        ("ic128oc64", "ic30oc57", Side.TOGETHER, [(32, 64), (64, 64), (128, 64)]),
        ("ic128oc128", "ic128oc113", Side.OUT, [(128, 120), (128, 128)]),
        ("ic128oc128", "ic113oc128", Side.IN, [(120, 128), (128, 128)]),
        ("g128ic128oc128", "g113ic113oc113", Side.OUT, [(120, 120), (128, 128)]),
        ("g4ic128oc128", "g4ic100oc100", Side.TOGETHER, [(104, 104), (128, 128)]),
    ],
)
def test_a_pruned_layer_is_padded_on_the_sides_that_lost(
    whole: str, part: str, side: Side, counts: list[tuple[int, int]]
) -> None:
    layer = Layer("net", None, "x", parse_descriptor(f"mb1_{whole}_ih8kh3ph1"))
    comparison = Comparison("scripted", layer, parse_descriptor(f"mb1_{part}_ih8kh3ph1"), side)
    assert [(padded.in_channels, padded.out_channels) for padded in padded_selves(comparison)] == counts
