"""Hypothesis strategies of valid problems, small enough for a naive loop and odd enough to matter."""

from __future__ import annotations

from hypothesis import strategies as st

from neverslower.problem.convolution import ConvProblem, DType, Layout


@st.composite
def _channels(draw: st.DrawFn, largest: int) -> tuple[int, int, int]:
    """(groups, in_channels, out_channels) of a dense, grouped or depthwise layer."""
    kind = draw(st.sampled_from(["dense", "grouped", "depthwise"]))
    if kind == "dense":
        return 1, draw(st.integers(1, largest)), draw(st.integers(1, largest))
    groups = draw(st.integers(2, max(2, largest // 2)))
    per_group = 1 if kind == "depthwise" else draw(st.integers(1, 3))
    return groups, groups * per_group, groups * draw(st.integers(1, 3))


@st.composite
def _axis(draw: st.DrawFn, largest: int) -> tuple[int, int, int, int, int, int]:
    """(size, kernel, stride, dilation, leading padding, trailing padding) of one axis, with an output of 1 or more."""
    kernel, stride, dilation = (draw(st.integers(1, most)) for most in (4, 3, 3))
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    extent = (kernel - 1) * dilation + 1
    return draw(st.integers(max(1, extent - before - after), extent + largest)), kernel, stride, dilation, before, after


@st.composite
def problems(
    draw: st.DrawFn,
    largest_channels: int = 200,
    largest_size: int = 60,
    dtypes: tuple[DType, ...] = tuple(DType),
    layouts: tuple[Layout, ...] = tuple(Layout),
) -> ConvProblem:
    """Any valid problem: odd channels, groups, depthwise, strides, dilation, asymmetric padding, h unlike w."""
    groups, in_channels, out_channels = draw(_channels(largest_channels))
    down = draw(_axis(largest_size))
    across = draw(st.one_of(st.just(down), _axis(largest_size)))
    return ConvProblem(
        batch=draw(st.integers(1, 3)),
        groups=groups,
        in_channels=in_channels,
        out_channels=out_channels,
        height=down[0],
        width=across[0],
        kernel=(down[1], across[1]),
        stride=(down[2], across[2]),
        dilation=(down[3], across[3]),
        padding=(*down[4:], *across[4:]),
        dtype=draw(st.sampled_from(dtypes)),
        layout=draw(st.sampled_from(layouts)),
    )


def small_problems() -> st.SearchStrategy[ConvProblem]:
    """Problems whose convolution a loop in Python does at once."""
    return problems(largest_channels=6, largest_size=5)
