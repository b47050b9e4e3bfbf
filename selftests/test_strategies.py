"""What is drawn: valid layers inside the space, shaped like networks' and beyond, which shrink to the plainest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from neverslower.hunt.strategies import LARGEST_TENSOR, MODULUS, Space, _moved, comparisons
from neverslower.problem.comparison import STANDARD_DISTANCES, Comparison
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side
from neverslower.problem.epilogue import PLAIN, Epilogue, PostOp
from neverslower.problem.networks import NETWORKS, network

EVERYTHING = Space(dtypes=tuple(DType), layouts=tuple(Layout), sides=(Side.OUT, Side.IN))
LEAST = Space(largest_macs=2)
Holds = Callable[[ConvProblem, ConvProblem], bool]


def spaces() -> st.SearchStrategy[Space]:
    """Spaces of all sizes, with and without each capability."""
    return st.builds(
        Space,
        dtypes=st.sampled_from([(DType.FLOAT32,), (DType.BFLOAT16, DType.FLOAT16)]),
        layouts=st.sampled_from([(Layout.NCHW,), tuple(Layout)]),
        sides=st.sampled_from([(Side.OUT,), (Side.IN,), (Side.OUT, Side.IN)]),
        groups=st.booleans(),
        dilation=st.booleans(),
        asymmetric_padding=st.booleans(),
        largest_macs=st.sampled_from([2, 3, 7, 50, 1000, 123_456, 30_000_000]),
        epilogue=st.sampled_from([PLAIN, Epilogue(post_ops=(PostOp.RELU,))]),
    )


@given(st.data(), spaces())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_drawn_comparisons_lie_within_the_space(data: st.DataObject, space: Space) -> None:
    one = data.draw(comparisons("scripted", space))
    problem = one.reference
    assert (one.backend, one.layer.network, one.layer.place) == ("scripted", "", problem.descriptor)
    assert one.candidate == problem.prune(one.distance, one.side)
    assert one.side in space.sides
    assert problem.dtype in space.dtypes
    assert problem.layout in space.layouts
    assert problem.epilogue == one.candidate.epilogue == space.epilogue
    assert problem.macs <= space.largest_macs
    assert max(problem.in_channels * problem.height * problem.width, one.candidate.bytes // 12) <= LARGEST_TENSOR
    assert space.groups or problem.groups == 1
    assert space.dilation or problem.dilation == (1, 1)
    assert space.asymmetric_padding or problem.symmetric_padding
    assert ConvProblem.from_key(problem.key) == problem


def test_a_space_in_which_nothing_can_be_pruned_is_refused() -> None:
    for nothing in ({"largest_macs": 1}, {"dtypes": ()}, {"layouts": ()}, {"sides": ()}):
        with pytest.raises(ValueError, match="nothing in it can be pruned"):
            Space(**nothing)


def drawn(space: Space, examples: int, spread: bool = True) -> list[Comparison]:
    """Distinct comparisons that a run of so many examples draws."""
    found: dict[tuple[str, str, str], Comparison] = {}

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(comparisons("scripted", space, spread))
    def collect(one: Comparison) -> None:
        found[one.identity] = one

    collect()
    return list(found.values())


def test_a_run_draws_all_kinds_of_layers() -> None:
    layers = {layer.problem for name in NETWORKS for layer in network(name)}
    kinds: dict[str, Callable[[Comparison, ConvProblem], bool]] = {
        "a network's": lambda _, p: replace(p, dtype=DType.FLOAT32, layout=Layout.NCHW, batch=1) in layers,
        "pruned by a standard distance": lambda one, _: one.distance in STANDARD_DISTANCES,
        "pruned by another distance": lambda one, _: one.distance not in STANDARD_DISTANCES,
        "side in": lambda one, _: one.side is Side.IN,
        "odd channels": lambda _, p: p.out_channels % 2 == 1 and p.in_channels % 2 == 1,
        "1×1": lambda _, p: p.kernel == (1, 1),
        "an even kernel": lambda _, p: p.kernel[0] in (2, 4, 6),
        "strided": lambda _, p: p.stride != (1, 1),
        "depthwise": lambda _, p: p.depthwise,
        "grouped": lambda _, p: p.groups > 1 and not p.depthwise,
        "dilated": lambda _, p: p.dilation != (1, 1),
        "asymmetric padding": lambda _, p: not p.symmetric_padding,
        "oblong input": lambda _, p: p.height != p.width,
        "oblong kernel": lambda _, p: p.kernel[0] != p.kernel[1],
        "a batch": lambda _, p: p.batch > 1,
        "large": lambda _, p: p.macs > 1_000_000,
        "small": lambda _, p: p.macs < 10_000,
    }
    found = drawn(EVERYTHING, 400)
    counts = Counter(kind for one in found for kind, holds in kinds.items() if holds(one, one.reference))
    assert len(found) >= 100
    assert [f"{kind}: {counts[kind]} of {len(found)}" for kind in kinds if counts[kind] < 4] == []


def test_the_channels_kept_are_not_only_what_standard_distances_leave() -> None:
    usual = {(around - distance) % MODULUS for distance in STANDARD_DISTANCES for around in (-1, 0, 1)}
    assert len(usual) / MODULUS < 0.41

    def share(spread: bool) -> float:
        wide = [one for one in drawn(Space(groups=False), 400, spread) if one.reference.out_channels > MODULUS]
        return sum(one.candidate.out_channels % MODULUS in usual for one in wide) / len(wide)

    assert share(True) < 0.52
    assert share(False) > 0.58


@pytest.mark.parametrize(
    ("channels", "distance", "step", "remainder", "moved"),
    [
        (64, 1, 1, 17, 15),
        (64, 30, 1, 1, 31),
        (64, 1, 1, 0, 32),
        (64, 7, 1, -1, 7),
        (8, 3, 1, 20, 3),
        (96, 4, 4, 16, 16),
    ],
)
def test_a_count_moves_to_the_nearest_of_its_remainder(
    channels: int, distance: int, step: int, remainder: int, moved: int
) -> None:
    assert _moved(channels, distance, step, remainder) == moved


def test_distinct_formats_are_drawn_alike() -> None:
    counts = Counter((one.reference.dtype, one.reference.layout) for one in drawn(EVERYTHING, 150))
    assert len(counts) == len(DType) * len(Layout)


@pytest.mark.parametrize(
    ("holds", "expected", "kept"),
    [
        (lambda whole, part: part.out_channels % 8 == 7, "mb1_g1ic1oc8_ih1oh1kh1sh1ph0", 7),
        (lambda whole, part: whole.kernel == (3, 3) and part.out_channels > 5, "mb1_g1ic1oc7_ih3oh1kh3sh1ph0", 6),
        (
            lambda whole, part: whole.out_channels == whole.groups and part.groups % 4 == 3,
            "mb1_g4ic4oc4_ih1oh1kh1sh1ph0",
            3,
        ),
    ],
    ids=["congruence class", "kernel", "depthwise"],
)
def test_what_is_found_shrinks_to_the_plainest_layer(holds: Holds, expected: str, kept: int) -> None:
    how = settings(
        max_examples=2000, database=None, deadline=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
    )
    least = find(comparisons("scripted", Space()), lambda one: holds(one.reference, one.candidate), settings=how)
    assert (least.reference.descriptor, least.candidate.out_channels) == (expected, kept)


def test_the_least_space_holds_one_pruning_a_kind() -> None:
    assert {(one.reference.out_channels, one.distance) for one in drawn(LEAST, 100)} == {(2, 1)}
