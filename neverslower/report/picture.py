"""Draw a baseline: each layer a column, each pruned channel count a mark at its ratio to the unpruned layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from neverslower.baseline.entry import Baseline, Entry, Known
from neverslower.judge.verdict import Code, Interval
from neverslower.problem.convolution import ConvProblem
from neverslower.report.reproduction import software

COLOURS = {Code.SLOWER: "#c62828", Code.UNDECIDED: "#9e9e9e", Code.SAME: "#1565c0", Code.FASTER: "#2e7d32"}
COLUMN, WIDEST_COLUMN, TOP, HEIGHT = 36, 120, 76, 340
LEAST_LEFT, LEAST_BOTTOM, RIGHT = 64, 96, 24
LETTER, BOLD_LETTER = 7.4, 9.2
"""The widths in pixels that a letter of 12 and a bold one of 16 have at the most, on average."""
SLANT = math.radians(60)
"""How steeply the names of layers rise."""
LOWEST = 0.5
"""Where the axis ends: how much faster than this a layer gets is not the question, so such marks lie on the edge."""
_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0)


def picture(baseline: Baseline) -> str:
    """Return the text of an SVG: ratios on a logarithmic axis, with their intervals."""
    entries = [entry for entry in baseline.entries.values() if entry.reference != entry.candidate and entry.known.ratio]
    layers = list(dict.fromkeys(entry.layer for entry in entries))
    ratios = [_ratio(entry.known).estimate for entry in entries] or [1.0]
    scale = _Scale(LOWEST, max(1.2, *ratios) * 1.05)
    title, subtitle = _title(entries), _subtitle(baseline)
    frame = _Frame.around(layers, title, subtitle)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" '
        f'width="{frame.width}" height="{frame.height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{frame.width}" height="{frame.height}" fill="white"/>',
        f'<text x="{frame.left}" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="{frame.left}" y="44" fill="#555">{escape(subtitle)}</text>',
        *_legend(frame),
        *_axis(scale, frame),
        *(line for index, layer in enumerate(layers) for line in _column(frame, index, layer, entries, scale)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Frame:
    """The pixels left of the first column, of each column, and of the whole picture."""

    left: int
    column: int
    width: int
    height: int

    @classmethod
    def around(cls, layers: Sequence[str], title: str, subtitle: str) -> _Frame:
        """Return a frame in which the titles and the slanted names of the layers have room."""
        longest = LETTER * max(map(len, layers), default=0)
        left = max(LEAST_LEFT, math.ceil(longest * math.cos(SLANT)) - COLUMN // 2 + 4)
        bottom = max(LEAST_BOTTOM, math.ceil(longest * math.sin(SLANT)) + 24)
        words = math.ceil(max(BOLD_LETTER * len(title), LETTER * len(subtitle)))
        column = max(COLUMN, min(WIDEST_COLUMN, words // max(1, len(layers))))
        return cls(left, column, left + max(column * len(layers), words) + RIGHT, TOP + HEIGHT + bottom)


class _Scale:
    """A logarithmic axis from ratios to heights."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def y(self, ratio: float) -> float:
        """Return the height of a ratio in pixels; a ratio outside the axis lies at its edge."""
        inside = min(max(ratio, self.low), self.high)
        return TOP + HEIGHT * math.log(self.high / inside) / math.log(self.high / self.low)


def _title(entries: Sequence[Entry]) -> str:
    slower = sum(entry.known.code is Code.SLOWER for entry in entries)
    return f"{slower} of {len(entries)} pruned layers are slower than the unpruned layer"


def _subtitle(baseline: Baseline) -> str:
    where = f"{software(baseline.fingerprint)} on {baseline.fingerprint.device}"
    return f"{where}; time over the unpruned layer's, with interval; fewer channels to the right"


def _legend(frame: _Frame) -> Iterator[str]:
    for index, (code, colour) in enumerate(COLOURS.items()):
        x = frame.left + 100 * index
        yield f'<circle cx="{x + 5}" cy="60" r="4" fill="{colour}"/><text x="{x + 14}" y="64">{code}</text>'


def _axis(scale: _Scale, frame: _Frame) -> Iterator[str]:
    for tick in _TICKS:
        if scale.low <= tick < scale.high:
            y = scale.y(tick)
            stroke = "#333" if tick == 1.0 else "#e0e0e0"
            ends = f'x1="{frame.left}" x2="{frame.width - 12}"'
            yield f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" stroke="{stroke}"/>'
            label = f"≤ {tick:g}×" if tick == scale.low else f"{tick:g}×"
            yield f'<text x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _column(frame: _Frame, index: int, layer: str, entries: list[Entry], scale: _Scale) -> Iterator[str]:
    """Yield a layer's marks next to each other, fewer channels to the right, and its name below."""
    x = frame.left + frame.column * index
    if index % 2:
        yield f'<rect x="{x}" y="{TOP}" width="{frame.column}" height="{HEIGHT}" fill="#f5f5f5" opacity="0.6"/>'
    mine = sorted((entry for entry in entries if entry.layer == layer), key=lambda entry: -_kept(entry))
    step = (frame.column - 8) / max(1, len(mine) - 1)
    for position, entry in enumerate(mine):
        ratio, at, colour = _ratio(entry.known), x + 4 + position * step, COLOURS.get(entry.known.code, "#000")
        tip = escape(f"{layer}, {_kept(entry)} channels: {entry.known.code} {ratio}")
        yield f'<g stroke="{colour}" fill="{colour}"><title>{tip}</title>'
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{scale.y(ratio.low):.1f}" y2="{scale.y(ratio.high):.1f}"/>'
        yield f'<circle cx="{at:.1f}" cy="{scale.y(ratio.estimate):.1f}" r="2.2"/></g>'
    at, y = x + frame.column / 2, TOP + HEIGHT + 12
    turned = f"translate({at:.1f} {y}) rotate(-{math.degrees(SLANT):.0f})"
    yield f'<text transform="{turned}" text-anchor="end">{escape(layer)}</text>'


def _kept(entry: Entry) -> int:
    return ConvProblem.from_key(entry.candidate).channels(entry.side)


def _ratio(known: Known) -> Interval:
    assert known.ratio is not None  # Entries without one were left out.
    return known.ratio
