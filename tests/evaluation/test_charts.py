import re
from xml.etree import ElementTree

import pytest

from v2a_dpo.evaluation.report.charts import (
    Axes,
    Bar,
    Histogram,
    Series,
    _ticks,
    forest_chart,
    histogram_chart,
    line_chart,
    running_mean,
)

AXES = Axes("Loss & more", "step", "nats", marks=[(5, "hard <pairs>")])


def svg_of(html):
    """The drawing of a chart; it is well-formed XML with everything inside the picture."""
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", html).group())
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    for path in svg.iter("path"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
        assert all(-0.01 <= x <= width + 0.01 for x in numbers[::2])
        assert all(-0.01 <= y <= height + 0.01 for y in numbers[1::2])
    return svg


def test_a_line_rises_where_its_values_rise():
    svg = svg_of(line_chart([Series("Training", "first", [(0, 1.0), (5, 2.0), (10, 4.0)], dots=True)], AXES))
    line = next(path for path in svg.iter("path") if path.attrib["class"] == "line first")
    points = [tuple(map(float, point.split())) for point in line.attrib["d"][1:].split("L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (y0 - y1) * 2 == pytest.approx(y1 - y2, abs=0.2)


def test_bands_lie_around_their_line_and_constant_data_have_axes_too():
    series = Series("Base", "base", [(1, 3.0), (2, 3.0)], band=[(1, 3.0, 3.0), (2, 3.0, 3.0)])
    svg = svg_of(line_chart([series], Axes("Flat", "x", "y")))
    assert {path.attrib["class"] for path in svg.iter("path")} == {"band base", "line base"}


def test_texts_are_escaped():
    html = line_chart([Series("<b>", "first", [(0, 0), (1, 1)])], AXES)
    assert "Loss &amp; more" in html
    assert "hard &lt;pairs&gt;" in html
    assert "<b>" not in html


def test_a_histograms_steps_are_as_high_as_its_counts():
    svg = svg_of(histogram_chart([Histogram("Base", "base", [0, 1, 2], [2, 4])], Axes("H", "x", "n")))
    path = next(path for path in svg.iter("path") if "steps" in path.attrib["class"])
    ys = [float(point.split()[1]) for point in path.attrib["d"][1:].split("L")]
    floor = ys[0]
    assert floor - ys[1] == pytest.approx((floor - ys[3]) / 2, abs=0.2)
    assert ys[-1] == floor


def test_a_forest_puts_better_values_further_right():
    svg = svg_of(forest_chart([Bar("A", 10, 5, 15, "better"), Bar("B", -4, -9, 1, "unclear")], title="F", x_label="%"))
    places = [float(circle.attrib["cx"]) for circle in svg.iter("circle")]
    assert places[0] > places[1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.00031, 0.00017), (1.0, 4.5), (2500, 4800), (-1e5, 3e5)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = _ticks(low, high, 5)
    assert 3 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


def test_running_means_average_what_is_there():
    assert running_mean([(0, 2.0), (1, 4.0), (2, 6.0)], width=2) == [(0, 2.0), (1, 3.0), (2, 5.0)]
