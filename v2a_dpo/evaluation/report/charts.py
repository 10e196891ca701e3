"""Charts as small inline SVG: they follow the page's colours and scale with it, and need no script.

Every chart is 360 units wide, so that its text is readable on a phone; colours come from the page's classes
`track-0` to `track-3` (real audio, then the systems), `first`, `second`, `third`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

_WIDTH, _HEIGHT = 360.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 12.0, 34.0


@dataclass(frozen=True)
class Series:
    """A named line of points; `band` holds (x, low, high) around it, `faint` draws it thin behind the others."""

    name: str
    css_class: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Histogram:
    """A named distribution: counts or shares in the bins that `edges` (one more than bins) bound."""

    name: str
    css_class: str
    edges: Sequence[float]
    heights: Sequence[float]


@dataclass(frozen=True)
class Axes:
    """A chart's title, its axes' labels, and vertical lines (x, text) through it; `y_range` overrides the data's."""

    title: str
    x_label: str
    y_label: str
    marks: Sequence[tuple[float, str]] = ()
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    diagonal: bool = False


@dataclass(frozen=True)
class Bar:
    """One row of a forest chart: a value with its interval, marked with the class `css_class`."""

    title: str
    value: float
    low: float
    high: float
    css_class: str


@dataclass
class _Frame:
    """The mapping from data to drawing of one chart, and what has been drawn."""

    axes: Axes
    x: tuple[float, float]
    y: tuple[float, float]
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in (self.at(x, y) for x, y in points))

    def svg(self, legend: Sequence[tuple[str, str]]) -> str:
        title = escape(self.axes.title)
        keys = "".join(f'<li class="{css_class}">{escape(name)}</li>' for name, css_class in legend if name)
        return (
            f'<figure class="chart"><figcaption>{title}</figcaption>'
            f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
            f'aria-label="{title}">{_grid(self)}{"".join(self.parts)}'
            f"</svg>{f'<ul class=legend>{keys}</ul>' if keys else ''}</figure>"
        )


def line_chart(series: Sequence[Series], axes: Axes) -> str:
    """Lines with bands and dots, in one pair of axes."""
    xs = [x for line in series for x, _ in line.points] + [x for x, _ in axes.marks]
    ys = [y for line in series for _, y in line.points] + [y for line in series for row in line.band for y in row[1:]]
    frame = _Frame(axes, axes.x_range or _range(xs), axes.y_range or _range(ys, padding=0.06))
    if axes.diagonal:
        ends = [(frame.x[0], frame.y[0]), (frame.x[1], frame.y[1])]
        frame.parts.append(f'<path class="diagonal" d="{frame.path(ends)}"/>')
    for line in series:
        if line.band:
            outline = [(x, low) for x, low, _ in line.band] + [(x, high) for x, _, high in reversed(line.band)]
            frame.parts.append(f'<path class="band {line.css_class}" d="{frame.path(outline)}Z"/>')
    for line in series:
        weight = "faint" if line.faint else "line"
        if line.points:
            frame.parts.append(f'<path class="{weight} {line.css_class}" d="{frame.path(line.points)}"/>')
        if line.dots:
            places = [frame.at(x, y) for x, y in line.points]
            dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.2"/>' for px, py in places)
            frame.parts.append(f'<g class="dots {line.css_class}">{dots}</g>')
    return frame.svg([(line.name, line.css_class) for line in series if not line.faint])


def histogram_chart(histograms: Sequence[Histogram], axes: Axes) -> str:
    """Distributions over common bins as filled steps, one over the other."""
    edges = [edge for item in histograms for edge in item.edges]
    top = max((height for item in histograms for height in item.heights), default=1.0) or 1.0
    x_range = axes.x_range or _range(edges + [x for x, _ in axes.marks])
    frame = _Frame(axes, x_range, axes.y_range or (0.0, top * 1.08))
    for item in histograms:
        steps = [(item.edges[0], 0.0)]
        for left, right, height in zip(item.edges, item.edges[1:], item.heights, strict=False):
            steps += [(left, height), (right, height)]
        steps.append((item.edges[-1], 0.0))
        frame.parts.append(f'<path class="steps {item.css_class}" d="{frame.path(steps)}"/>')
    return frame.svg([(item.name, item.css_class) for item in histograms])


def forest_chart(bars: Sequence[Bar], *, title: str, x_label: str) -> str:
    """One row a value with its interval, around a line at zero; what lies to the right is the better side."""
    row_height, left, bottom = 24.0, 112.0, 34.0
    low, high = _range([0.0, *(bar.low for bar in bars), *(bar.high for bar in bars)], padding=0.05)
    height = 6 + row_height * len(bars) + bottom

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - _RIGHT)

    floor = height - bottom
    parts = []
    for tick in _ticks(low, high, 5):
        style = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="2" y2="{floor}"/>')
        parts.append(
            f'<text class="tick" x="{place(tick):.1f}" y="{floor + 13}" text-anchor="middle">{_label(tick)}</text>'
        )
    for row, bar in enumerate(bars):
        y = 6 + row_height * (row + 0.5)
        parts.append(
            f'<text class="label" x="0" y="{y + 4}">{escape(bar.title)}</text><g class="bar {bar.css_class}">'
            f'<line x1="{place(bar.low):.1f}" x2="{place(bar.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{place(bar.value):.1f}" cy="{y}" r="4.5"/></g>'
        )
    parts.append(
        f'<text class="axis" x="{(left + _WIDTH) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    drawing = f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{drawing}</figure>'


def running_mean(points: Sequence[Point], *, width: int) -> list[Point]:
    """The points with y averaged over the last `width` of them, or over fewer at the start."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    starts = [max(0, end - width) for end in range(1, len(sums))]
    return [
        (points[end - 1][0], (sums[end] - sums[start]) / (end - start))
        for end, start in zip(range(1, len(sums)), starts, strict=True)
    ]


def _grid(frame: _Frame) -> str:
    floor, left, right = _HEIGHT - _BOTTOM, _LEFT, _WIDTH - _RIGHT
    parts = []
    for tick in _ticks(*frame.y, 5):
        y = frame.at(frame.x[0], tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_label(tick)}</text>')
    for tick in _ticks(*frame.x, 6):
        x = frame.at(tick, frame.y[0])[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 13}" text-anchor="middle">{_label(tick)}</text>')
    parts.append(f'<line class="floor" x1="{left}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    for value, text in frame.axes.marks:
        x = frame.at(value, frame.y[0])[0]
        anchor, shift = ("end", -4) if x > _WIDTH * 0.6 else ("start", 4)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>')
        parts.append(
            f'<text class="tick" x="{x + shift:.1f}" y="{_TOP + 8}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    middle = (left + right) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(frame.axes.x_label)}</text>'
    )
    turned = f'transform="rotate(-90)" x="{-(_TOP + floor) / 2}" y="9" text-anchor="middle"'
    parts.append(f'<text class="axis" {turned}>{escape(frame.axes.y_label)}</text>')
    return "".join(parts)


def _range(values: Sequence[float], *, padding: float = 0.0) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low - (high - low) * padding, high + (high - low) * padding


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers from `low` to `high`, about `wanted` of them."""
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _label(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}".replace("-", "−")
