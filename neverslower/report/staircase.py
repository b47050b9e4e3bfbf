"""Draw a staircase: a layer's time over its channel count, with slower counts in the colour of their cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape

from neverslower.device.fingerprint import Fingerprint
from neverslower.judge.cause import Cause
from neverslower.maps.staircase import Staircase
from neverslower.report.reproduction import software

COLOURS: Mapping[Cause | None, str] = {
    None: "#1565c0",
    Cause.ALIGNMENT: "#ef6c00",
    Cause.KERNEL_CHANGE: "#c62828",
    Cause.TILE_OR_WAVE: "#6a1b9a",
    Cause.HEURISTIC_MISS: "#00838f",
    Cause.UNKNOWN: "#757575",
}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 340, 64, 92, 48
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def staircase_picture(staircase: Staircase, fingerprint: Fingerprint) -> str:
    """Return the text of an SVG: microseconds over output channels, both from 0; the unpruned time is a line."""
    processors = int(fingerprint.hardware.get("sms", 0))
    causes = staircase.causes(processors)
    across = _Axis(0, staircase.counts[-1], LEFT, LEFT + WIDTH)
    up = _Axis(0, float(staircase.costs.max()) * 1.08e6, TOP + HEIGHT, TOP)
    width, height = LEFT + WIDTH + 24, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_title(staircase, fingerprint, causes),
        *_axes(across, up),
        *_unpruned(staircase, across, up),
        *_points(staircase, causes, across, up),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Axis:
    """A linear axis from values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self._start, self._end = low, high, start, end

    def at(self, value: float) -> float:
        """Return the pixel at which a value lies."""
        return self._start + (self._end - self._start) * (value - self.low) / (self.high - self.low)

    def ticks(self, about: int) -> Iterator[int]:
        """Yield round values from 0 on, at most `about` of them where STEPS has a large enough step."""
        step = next((step for step in STEPS if (self.high - self.low) / step <= about), STEPS[-1])
        yield from range(0, int(self.high) + 1, step)


def _title(staircase: Staircase, fingerprint: Fingerprint, causes: Mapping[int, Cause]) -> Iterator[str]:
    problem = staircase.unpruned
    slower = len(staircase.hazards)
    # On one line: between two lines of a text, an SVG has no space.
    title = f"{slower} of {len(staircase.counts) - 1} pruned channel counts take longer than the unpruned layer"
    yield f'<text x="{LEFT}" y="24" font-size="16" font-weight="bold">{escape(staircase.name)}: {title}</text>'
    shape = f"{problem.height}×{problem.width}, {problem.in_channels}→{problem.out_channels}, "
    kernel = f"{problem.kernel[0]}×{problem.kernel[1]}, {problem.dtype} {problem.layout}, batch {problem.batch}"
    chosen = "".join(f", {policy}" for policy in [fingerprint.state.get("policy")] if policy)
    subtitle = f"{shape}{kernel}; {software(fingerprint)}{chosen}, on {fingerprint.device}"
    yield f'<text x="{LEFT}" y="44" fill="#555">{escape(subtitle)}</text>'
    counts = Counter(causes.values())
    x = float(LEFT)
    for cause, colour in COLOURS.items():
        if cause is None or counts[cause]:
            text = "not slower" if cause is None else f"{cause} ({counts[cause]})"
            yield f'<circle cx="{x + 5:.0f}" cy="66" r="4" fill="{colour}"/><text x="{x + 14:.0f}" y="70">{text}</text>'
            x += 32 + 7 * len(text)


def _axes(across: _Axis, up: _Axis) -> Iterator[str]:
    for tick in up.ticks(8):
        y = up.at(tick)
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e0e0e0"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>'
    for tick in across.ticks(12):
        x = across.at(tick)
        yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{tick}</text>'
    yield f'<text x="{LEFT - 44}" y="{TOP - 8}" fill="#555">µs a call</text>'
    yield f'<text x="{LEFT + WIDTH}" y="{TOP + HEIGHT + 38}" text-anchor="end" fill="#555">output channels kept</text>'


def _unpruned(staircase: Staircase, across: _Axis, up: _Axis) -> Iterator[str]:
    y = up.at(staircase.costs[-1] * 1e6)
    yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#333" stroke-dasharray="5 4"/>'
    yield f'<text x="{LEFT + 6}" y="{y - 5:.1f}" fill="#333">unpruned: {staircase.costs[-1] * 1e6:.1f} µs</text>'


def _points(staircase: Staircase, causes: Mapping[int, Cause], across: _Axis, up: _Axis) -> Iterator[str]:
    for index, (count, seconds) in enumerate(zip(staircase.counts, staircase.costs, strict=True)):
        colour = COLOURS[causes.get(index)]
        tip = f"{count} channels: {seconds * 1e6:.2f} µs, {staircase.ratios[index]:.2f}×"
        tip += f", {causes[index]}" if index in causes else ""
        yield f'<circle cx="{across.at(count):.1f}" cy="{up.at(seconds * 1e6):.1f}" r="2.2" fill="{colour}">'
        yield f"<title>{escape(tip)}</title></circle>"
