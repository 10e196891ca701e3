"""Charts as inline SVG: matplotlib lays them out, and the page's style sheet colours them by their classes.

They scale with the page, follow its light or dark scheme, and need no script. Classes of data are `track-0` to
`track-3` (real audio, then the systems), `first`, `second`, `third`, and in forest charts the verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure

Point = tuple[float, float]

#: In the units of the drawing, which fits a phone: the size, and the space around the axes.
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


def line_chart(series: Sequence[Series], axes: Axes) -> str:
    """Lines with bands and dots, in one pair of axes."""
    plot = _plot(axes)
    if axes.diagonal:
        plot.plot([0, 1], [0, 1], transform=plot.transAxes, gid="diagonal")
    for line in series:
        if line.band:
            x, low, high = np.array(line.band).T
            plot.fill(np.append(x, x[::-1]), np.append(low, high[::-1]), gid=f"band {line.css_class}")
    for line in series:
        if line.points:
            x, y = np.array(line.points).T
            plot.plot(x, y, gid=f"{'faint' if line.faint else 'line'} {line.css_class}")
            if line.dots:
                plot.plot(x, y, "o", markersize=6.4, gid=f"dots {line.css_class}")
    return _figure(plot, axes, [(line.name, line.css_class) for line in series if not line.faint])


def histogram_chart(histograms: Sequence[Histogram], axes: Axes) -> str:
    """Distributions over common bins as filled steps, one over the other."""
    plot = _plot(axes)
    for item in histograms:
        plot.stairs(item.heights, item.edges, fill=True, gid=f"steps {item.css_class}")
    plot.set_ylim(bottom=0.0)
    return _figure(plot, axes, [(item.name, item.css_class) for item in histograms])


def forest_chart(bars: Sequence[Bar], *, title: str, x_label: str) -> str:
    """One row per value with its interval, around a line at zero; what lies to the right is the better side."""
    axes = Axes(title, x_label, "")
    plot = _plot(axes, height=6 + 24 * len(bars) + _BOTTOM, left=112, top=6, grid="x")
    plot.margins(x=0.05)
    plot.axvline(0.0, gid="zero")
    for row, bar in enumerate(bars):
        plot.plot([bar.low, bar.high], [row, row], gid=f"bar {bar.css_class}")
        plot.plot([bar.value], [row], "o", markersize=9, gid=f"dots {bar.css_class}")
    plot.set_ylim(len(bars) - 0.5, -0.5)
    plot.set_yticks(range(len(bars)), [bar.title for bar in bars], ha="left", gid="label")
    plot.tick_params(axis="y", pad=112)
    return _figure(plot, axes, [])


def running_mean(points: Sequence[Point], *, width: int) -> list[Point]:
    """The points with y averaged over the last `width` of them, or over fewer at the start."""
    sums = np.cumsum([0.0, *(y for _, y in points)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - width)
    means = (sums[ends] - sums[starts]) / (ends - starts)
    return [(x, mean) for (x, _), mean in zip(points, means.tolist(), strict=True)]


def _plot(
    axes: Axes, *, height: float = _HEIGHT, left: float = _LEFT, top: float = _TOP, grid: Literal["x", "y"] = "y"
) -> Plot:
    """Axes without data in a figure of their own; one point of the figure is one unit of the drawing."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(_WIDTH / 72, height / 72), frameon=False)
    box = left / _WIDTH, _BOTTOM / height, 1 - (left + _RIGHT) / _WIDTH, 1 - (top + _BOTTOM) / height
    plot = figure.add_axes(box, xmargin=0.0, ymargin=0.06, axisbelow=True)
    plot.patch.set_visible(False)
    plot.spines[["left", "right", "top"]].set_visible(False)
    plot.spines["bottom"].set_gid("floor")
    plot.tick_params(length=0, pad=5)
    plot.grid(axis=grid, gid="grid", clip_on=False)
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(_label)
    plot.set(xlabel=axes.x_label, ylabel=axes.y_label)
    for x, _ in axes.marks:
        plot.axvline(x, gid="mark")
    return plot


def _figure(plot: Plot, axes: Axes, legend: Sequence[tuple[str, str]]) -> str:
    """The finished chart as HTML, with classes in place of matplotlib's ids and styles."""
    from matplotlib import rc_context

    plot.set(**{f"{axis}lim": limits for axis, limits in (("x", axes.x_range), ("y", axes.y_range)) if limits})
    low, high = plot.get_xlim()
    for x, text in axes.marks:
        side, shift = ("right", -4) if (x - low) / (high - low) > 0.6 else ("left", 4)
        plot.annotate(text, (x, 1), (shift, -8), plot.get_xaxis_transform(), textcoords="offset points", ha=side)
    for artist in plot.get_children():
        artist.set_clip_on(False)
    figure, sink = cast("Figure", plot.figure), StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": axes.title}):
        figure.savefig(sink, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = sink.getvalue().partition("</defs>")[2]
    drawing = re.sub(r' style="(?:[^"]*(text-anchor: \w+))?[^"]*"', r' style="\1"', drawing)
    for pattern, new in (' style=""', ""), (r'(<g) id="[\w.]+_\d+"', r"\1"), ("<g id", "<g class"), ("xlink:", ""):
        drawing = re.sub(pattern, new, drawing)
    width, height = figure.get_size_inches() * 72
    title = escape(axes.title)
    keys = "".join(f'<li class="{css_class}">{escape(name)}</li>' for name, css_class in legend if name)
    return (
        f'<figure class="chart"><figcaption>{title}</figcaption><svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{title}">{drawing}{f"<ul class=legend>{keys}</ul>" if keys else ""}</figure>'
    )


def _label(value: float, _: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}".replace("-", "−")
