from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.problem.comparison import STANDARD_DISTANCES, Comparison, pruning_distances
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.networks import Layer, network

L16 = network("resnet50")[16]


def _pruned(channels):
    return pruning_distances(replace(L16.problem, out_channels=channels), Side.OUT)


def _distances(channels):
    return [distance for distance, _ in _pruned(channels)]


@pytest.mark.parametrize(
    ("channels", "distances"),
    [
        (128, [1, 3, 7, 15, 31, 32, 63, 64, 127]),
        (64, [1, 3, 7, 15, 16, 31, 32, 63]),
        (16, [1, 3, 4, 7, 8, 15]),
        (3, [1]),
        (2, [1]),
        (1, []),
        (1000, [1, 3, 7, 15, 31, 63, 120, 127, 250, 500]),
    ],
)
def test_the_standard_distances_and_shares_are_those_smaller_than_the_layer(channels, distances):
    assert _distances(channels) == distances


@pytest.mark.parametrize(("channels", "share"), [(100, 12), (99, 11), (25, 3), (24, 2), (175, 21)])
def test_twelve_percent_is_rounded_down(channels, share):
    assert share in _distances(channels)
    assert share + 1 not in set(_distances(channels)) - set(STANDARD_DISTANCES)


@given(st.integers(1, 5000))
def test_distances_are_the_exact_set_in_ascending_order(channels):
    shares = {int(channels * Fraction(percent, 100)) for percent in (12, 25, 50)}
    assert _distances(channels) == sorted(d for d in {*STANDARD_DISTANCES, *shares} if 0 < d < channels)


def test_the_papers_twelve_percent_and_single_channel_are_the_most_telling():
    by_rank = sorted(_pruned(1000), key=lambda pair: pair[1])
    assert [distance for distance, _ in by_rank[:2]] == [120, 1]
    ranks = [rank for _, rank in by_rank]
    assert len(set(ranks)) == len(ranks)


def test_a_distance_that_is_asked_for_twice_has_its_more_telling_rank():
    assert dict(_pruned(25))[3] == 1  # 12 % of 25


def test_a_comparison_is_of_the_unpruned_layer_and_its_pruned_self():
    comparison = Comparison("onednn", L16, L16.problem.prune(1))
    assert comparison.reference == L16.problem
    assert comparison.distance == 1
    assert not comparison.against_itself


def test_the_unpruned_layer_against_itself_has_no_distance():
    comparison = Comparison("onednn", L16, L16.problem)
    assert comparison.against_itself
    assert comparison.distance == 0


@pytest.mark.parametrize(
    ("dtype", "layout", "side", "distance", "expected"),
    [
        (DType.FLOAT32, Layout.NCHW, Side.OUT, 1, "onednn-resnet50.L16-float32-NCHW-out127"),
        (DType.BFLOAT16, Layout.NHWC, Side.IN, 31, "onednn-resnet50.L16-bfloat16-NHWC-in97"),
    ],
)
def test_the_id_names_backend_layer_format_and_kept_channels(dtype, layout, side, distance, expected):
    layer = L16.with_format(dtype, layout)
    assert Comparison("onednn", layer, layer.problem.prune(distance, side), side).id == expected


def test_a_layer_without_a_network_is_called_by_its_descriptor():
    text = "mb1ic8oc8ih8kh3"
    layer = Layer("", 0, text, L16.problem)
    assert Comparison("onednn", layer, L16.problem).id == f"onednn-{text}-float32-NCHW-out128"


def test_the_side_counts_its_own_channels():
    problem = replace(L16.problem, in_channels=64)
    layer = replace(L16, problem=problem)
    comparison = Comparison("onednn", layer, problem.prune(7, Side.IN), Side.IN)
    assert comparison.distance == 7
    assert comparison.id.endswith("-in57")


def test_comparisons_of_equal_problems_need_measuring_once():
    other = network("resnet50")[19]
    one, same = (Comparison("onednn", layer, layer.problem.prune(3)) for layer in (L16, other))
    assert one.identity == same.identity


def test_what_differs_needs_measuring_again():
    layer = L16.with_format(DType.FLOAT16, Layout.NCHW)
    comparisons = [
        Comparison("onednn", L16, L16.problem.prune(3)),
        Comparison("scripted", L16, L16.problem.prune(3)),
        Comparison("onednn", L16, L16.problem.prune(1)),
        Comparison("onednn", L16, L16.problem.prune(3, Side.IN), Side.IN),
        Comparison("onednn", layer, layer.problem.prune(3)),
    ]
    assert len({comparison.identity for comparison in comparisons}) == len(comparisons)
