"""The bench that sets advice against pruning without it: its variants, their sizes, and its tables."""

from __future__ import annotations

import pytest

from bench import advice_proof
from neverslower.report.widths import modules
from selftests.width_models import CHAIN, DEPTHWISE, known_of


def test_variants_take_one_share_of_every_group_and_round_to_the_nearest_multiple():
    channels = {"a": 64, "b": 100, "c": 8}
    assert advice_proof.without_advice(channels, 12, 0) == {"a": 57, "b": 88, "c": 8}
    assert advice_proof.without_advice(channels, 12, 16) == {"a": 64, "b": 96, "c": 8}
    assert advice_proof.without_advice(channels, 50, 32) == {"a": 32, "b": 64, "c": 8}
    assert len(advice_proof.variants_of(channels)) == 12


def test_variants_that_come_out_the_same_are_measured_once():
    variants = advice_proof.variants_of({"a": 64, "b": 128}, [25])
    kept, equal = advice_proof.without_twins(variants)
    assert list(kept) == ["uniform_25", "rounded_32_25"]
    assert equal == {"rounded_8_25": "uniform_25", "rounded_16_25": "uniform_25"}


def test_the_sum_of_a_grid_counts_every_place():
    known = known_of(CHAIN)
    costs = [known.grid.of(layer).cost for layer in CHAIN.model.layers]
    assert advice_proof.layer_sum(known, known.grid, {"first": 64, "second": 64}) == pytest.approx(sum(costs))
    assert advice_proof.layer_sum(known, known.grid, {"first": 63, "second": 64}) is None


def test_a_depthwise_module_is_sized_with_its_groups():
    known = known_of(DEPTHWISE)
    assert modules(known, {"expand": 48}) == {
        "expand": {"out_before": 64, "out": 48},
        "depthwise": {"in_before": 64, "in": 48, "out_before": 64, "out": 48, "groups": 48},
        "project": {"in_before": 64, "in": 48},
    }


def test_a_variant_is_built_at_its_sizes():
    torch = pytest.importorskip("torch")
    from bench.proof_models import Inverted
    from bench.resized import resized

    block = Inverted(8, 8, 1, 4)
    sizes = {
        "conv.0": {"out": 24},
        "conv.1": {"out": 24},
        "conv.3": {"in": 24, "out": 24, "groups": 24},
        "conv.4": {"out": 24},
        "conv.6": {"in": 24},
    }
    small = resized(block, sizes)
    assert small(torch.zeros(1, 8, 6, 6)).shape == (1, 8, 6, 6)
    assert sum(one.numel() for one in small.conv[3].parameters()) == 24 * 9
    with pytest.raises(ValueError, match="conv is a Sequential"):
        resized(block, {"conv": {"out": 3}})
