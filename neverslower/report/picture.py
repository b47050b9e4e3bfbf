"""Draw a baseline: each layer a column, each pruned channel count a mark at its ratio to the unpruned layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from neverslower.baseline.entry import Baseline, Entry, Known
from neverslower.judge.verdict import Code, Interval
from neverslower.problem.convolution import ConvProblem
from neverslower.report.reproduction import software

COLOURS = {Code.SLOWER: "#c62828", Code.UNDECIDED: "#9e9e9e", Code.SAME: "#1565c0", Code.FASTER: "#2e7d32"}
COLUMN, LEFT, TOP, HEIGHT, BOTTOM = 36, 64, 76, 340, 96
LOWEST = 0.5
"""Where the axis ends: how much faster than this a layer gets is not the question, so such marks lie on the edge."""
_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0)


def picture(baseline: Baseline) -> str:
    """Return the text of an SVG: ratios on a logarithmic axis, with their intervals."""
    entries = [entry for entry in baseline.entries.values() if entry.reference != entry.candidate and entry.known.ratio]
    layers = list(dict.fromkeys(entry.layer for entry in entries))
    ratios = [_ratio(entry.known).estimate for entry in entries] or [1.0]
    scale = _Scale(LOWEST, max(1.2, *ratios) * 1.05)
    width = LEFT + COLUMN * max(1, len(layers)) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + BOTTOM}" '
        f'width="{width}" height="{TOP + HEIGHT + BOTTOM}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{TOP + HEIGHT + BOTTOM}" fill="white"/>',
        *_title(baseline, entries),
        *_axis(scale, width),
        *(line for index, layer in enumerate(layers) for line in _column(index, layer, entries, scale)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """A logarithmic axis from ratios to heights."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def y(self, ratio: float) -> float:
        """Return the height of a ratio in pixels; a ratio outside the axis lies at its edge."""
        inside = min(max(ratio, self.low), self.high)
        return TOP + HEIGHT * math.log(self.high / inside) / math.log(self.high / self.low)


def _title(baseline: Baseline, entries: list[Entry]) -> Iterator[str]:
    slower = sum(entry.known.code is Code.SLOWER for entry in entries)
    fingerprint = baseline.fingerprint
    yield f'<text x="{LEFT}" y="24" font-size="16" font-weight="bold">'
    yield f"{slower} of {len(entries)} pruned layers are slower than the unpruned layer</text>"
    yield f'<text x="{LEFT}" y="44" fill="#555">{escape(software(fingerprint))} on {escape(fingerprint.device)}; '
    yield "time over the unpruned layer's, with interval; fewer channels to the right</text>"
    for index, (code, colour) in enumerate(COLOURS.items()):
        x = LEFT + 100 * index
        yield f'<circle cx="{x + 5}" cy="60" r="4" fill="{colour}"/><text x="{x + 14}" y="64">{code}</text>'


def _axis(scale: _Scale, width: int) -> Iterator[str]:
    for tick in _TICKS:
        if scale.low <= tick < scale.high:
            y = scale.y(tick)
            stroke = "#333" if tick == 1.0 else "#e0e0e0"
            yield f'<line x1="{LEFT}" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="{stroke}"/>'
            label = f"≤ {tick:g}×" if tick == scale.low else f"{tick:g}×"
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _column(index: int, layer: str, entries: list[Entry], scale: _Scale) -> Iterator[str]:
    """Yield a layer's marks next to each other, fewer channels to the right, and its name below."""
    x = LEFT + COLUMN * index
    if index % 2:
        yield f'<rect x="{x}" y="{TOP}" width="{COLUMN}" height="{HEIGHT}" fill="#f5f5f5" opacity="0.6"/>'
    mine = sorted((entry for entry in entries if entry.layer == layer), key=lambda entry: -_kept(entry))
    step = (COLUMN - 8) / max(1, len(mine) - 1)
    for position, entry in enumerate(mine):
        ratio, at, colour = _ratio(entry.known), x + 4 + position * step, COLOURS.get(entry.known.code, "#000")
        tip = escape(f"{layer}, {_kept(entry)} channels: {entry.known.code} {ratio}")
        yield f'<g stroke="{colour}" fill="{colour}"><title>{tip}</title>'
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{scale.y(ratio.low):.1f}" y2="{scale.y(ratio.high):.1f}"/>'
        yield f'<circle cx="{at:.1f}" cy="{scale.y(ratio.estimate):.1f}" r="2.2"/></g>'
    at, y = x + COLUMN / 2, TOP + HEIGHT + 12
    yield f'<text transform="translate({at:.1f} {y}) rotate(-60)" text-anchor="end">{escape(layer)}</text>'


def _kept(entry: Entry) -> int:
    return ConvProblem.from_key(entry.candidate).channels(entry.side)


def _ratio(known: Known) -> Interval:
    assert known.ratio is not None  # Entries without one were left out.
    return known.ratio
