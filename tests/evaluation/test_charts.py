import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from v2a_dpo.evaluation.report.charts import (
    Axes,
    Bar,
    Histogram,
    Series,
    forest_chart,
    histogram_chart,
    line_chart,
    running_mean,
)

AXES = Axes("Loss & more", "step", "nats", marks=[(5, "hard <pairs>")])


def svg_of(html):
    """The drawing of a chart; it is well-formed XML with everything inside the picture."""
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.DOTALL).group())
    assert "url(" not in html
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    for group in svg.iter("g"):
        for x, y in [point for path in group.findall("path") for point in points_of(path)] + places_of(group):
            assert -0.01 <= x <= width + 0.01
            assert -0.01 <= y <= height + 0.01
    return svg


def points_of(path):
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def places_of(group):
    return [(float(mark.attrib["x"]), float(mark.attrib["y"])) for mark in group.findall("use")]


def drawn(svg, css_class):
    """The points of all that has this class, one list per path, and the places of its dots."""
    groups = [group for group in svg.iter("g") if group.get("class") == css_class]
    paths = [points_of(path) for group in groups for path in group.findall("path")]
    return paths, [place for group in groups for inner in group.iter("g") for place in places_of(inner)]


def test_a_line_rises_where_its_values_rise():
    svg = svg_of(line_chart([Series("Training", "first", [(0, 1.0), (5, 2.0), (10, 4.0)], dots=True)], AXES))
    [points], _ = drawn(svg, "line first")
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (y0 - y1) * 2 == pytest.approx(y1 - y2, abs=0.2)
    assert drawn(svg, "dots first") == ([], points)
    [[(mark, _), _]], _ = drawn(svg, "mark")
    assert mark == pytest.approx(x1)


def test_bands_lie_around_their_line_and_constant_data_have_axes_too():
    series = Series("Base", "track-1", [(1, 3.0), (2, 3.0)], band=[(1, 3.0, 3.0), (2, 3.0, 3.0)])
    svg = svg_of(line_chart([series], Axes("Flat", "x", "y")))
    classes = {group.get("class") for group in svg.iter("g") if group.findall("path")}
    assert classes == {"band track-1", "line track-1", "grid", "floor"}
    series = Series("Base", "track-1", [(1, 3.0), (2, 4.0)], band=[(1, 2.5, 3.5), (2, 3.0, 4.5)])
    svg = svg_of(line_chart([series], Axes("Wide", "x", "y")))
    [[_, *inside]], [band] = drawn(svg, "line track-1")[0], drawn(svg, "band track-1")[0]
    assert min(y for _, y in band) < min(y for _, y in inside) < max(y for _, y in band)


def test_a_diagonal_joins_the_corners_of_the_axes():
    unit = Axes("Calibration", "predicted", "frequency", x_range=(0, 1), y_range=(0, 1), diagonal=True)
    svg = svg_of(line_chart([Series("Good", "first", [(0, 0.0), (1, 1.0)])], unit))
    assert drawn(svg, "diagonal") == drawn(svg, "line first")


def test_texts_are_escaped():
    html = line_chart([Series("<b>", "first", [(0, 0), (1, 1)])], AXES)
    assert "Loss &amp; more" in html
    assert "hard &lt;pairs&gt;" in html
    assert "<b>" not in html


def test_a_histograms_steps_are_as_high_as_its_counts():
    svg = svg_of(histogram_chart([Histogram("Base", "track-1", [0, 1, 2], [2, 4])], Axes("H", "x", "n")))
    [points], _ = drawn(svg, "steps track-1")
    ys = [y for _, y in points]
    floor = ys[0]
    assert floor - ys[1] == pytest.approx((floor - ys[3]) / 2, abs=0.2)
    assert ys[-1] == floor


def test_a_forest_puts_better_values_further_right():
    bars = [Bar("A", 10, 5, 15, "better"), Bar("B", -4, -9, 1, "unclear")]
    svg = svg_of(forest_chart(bars, title="F", x_label="%"))
    better, unclear = (drawn(svg, f"dots {verdict}")[1][0] for verdict in ("better", "unclear"))
    assert better[0] > unclear[0]
    assert better[1] < unclear[1], "the first row is the upper one"
    [[(low, _), (high, _)]], _ = drawn(svg, "bar better")
    assert better[0] - low == pytest.approx(high - better[0], abs=0.01)
    assert {"A", "B"} <= {text.text for text in svg.iter("text")}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.00031, 0.00017), (1.0, 4.5), (2500, 4800), (-1e5, 3e5)])
def test_ticks_are_round_few_and_inside(low, high):
    svg = svg_of(line_chart([Series("", "first", [(low, low), (high, high)])], Axes("T", "", "")))
    numbers = [float(text.text.replace("−", "-").replace("k", "e3")) for text in svg.iter("text")]
    num_y = len(drawn(svg, "grid")[0])
    for ticks in (numbers[:-num_y], numbers[-num_y:]):
        assert 3 <= len(ticks) <= 8
        assert all(low - 0.06 * (high - low) <= tick <= high + 0.06 * (high - low) for tick in ticks)
        steps = {f"{after - before:.3e}" for before, after in pairwise(ticks)}
        assert {step.split("e")[0].rstrip("0").rstrip(".") for step in steps} <= {"1", "2", "2.5", "5"}
        assert len(steps) == 1


def test_a_chart_is_drawn_the_same_every_time_and_shares_no_ids_with_others():
    series = [Series("Base", "track-1", [(0, 1.0), (1, 2.0)], dots=True)]
    first, again, other = (line_chart(series, Axes(title, "x", "y")) for title in ("A", "A", "B"))
    assert first == again
    ids = [set(re.findall(r' id="([^"]+)"', html)) for html in (first, other)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])


def test_running_means_average_what_is_there():
    assert running_mean([(0, 2.0), (1, 4.0), (2, 6.0)], width=2) == [(0, 2.0), (1, 3.0), (2, 5.0)]
