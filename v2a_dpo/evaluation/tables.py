"""Result tables: the paper's Table 1 with intervals, and the paired differences; as text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.levels import LEVELS
from v2a_dpo.evaluation.metrics import METRICS, SYSTEMS, WIN_RATE, Comparison, Metric, verdict
from v2a_dpo.evaluation.sampling import TITLES

#: How a verdict is written: never by colour alone.
VERDICTS = {"better": "better", "worse": "worse", "unclear": "no clear difference"}
SYSTEM_TITLES = {"base": "Base", "aligned": "Aligned"}


@dataclass(frozen=True)
class Cell:
    """A value as shown, its interval in brackets (or ""), and the verdict that marks it (or "")."""

    text: str
    interval: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """A caption, the columns' titles, and rows of a title and one cell per further column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def shown_metrics(comparison: Comparison, *, rater: str) -> list[Metric]:
    """The metrics this comparison has, in the tables' order, with the rater's name in the title."""
    present = [metric for metric in METRICS if metric.key in comparison.differences]
    return [
        replace(metric, title=f"Quality ({rater})") if metric.key == "rater_quality" else metric for metric in present
    ]


def paper_table(comparison: Comparison, *, caption: str, rater: str) -> Table:
    """One row per system, base and aligned, and one column per metric, with intervals; the arrows say which way is
    better.

    The paper's Table 1 also has other systems' published rows and a column of parameter counts.
    """
    metrics = shown_metrics(comparison, rater=rater)
    rows = []
    for system in SYSTEMS:
        cells = []
        for metric in metrics:
            found = comparison.intervals[system][metric.key]
            mark = verdict(metric, comparison.differences[metric.key]) if system == "aligned" else ""
            cells.append(Cell(_number(found.value, metric), _interval(found.low, found.high, metric), mark))
        rows.append((SYSTEM_TITLES[system], cells))
    return Table(caption, ["", *(_title(metric) for metric in metrics)], rows)


def difference_table(comparison: Comparison, *, caption: str, rater: str) -> Table:
    """One row per metric: base, aligned, the paired difference with its interval, two-sided p, and the verdict in
    words."""
    rows = []
    for metric in shown_metrics(comparison, rater=rater):
        change = comparison.differences[metric.key]
        values = [Cell(_number(comparison.intervals[system][metric.key].value, metric)) for system in SYSTEMS]
        rows.append((_title(metric), [*values, *_change_cells(metric, change, no_change=0.0)]))
    if comparison.win_rate is not None:
        metric = replace(WIN_RATE, title=f"Win rate ({rater})")
        rate = Cell(_number(comparison.win_rate.value, metric))
        rows.append((_title(metric), [Cell("–"), rate, *_change_cells(metric, comparison.win_rate, no_change=0.5)]))
    return Table(caption, ["Metric", "Base", "Aligned", "Difference", "p", "Aligned is"], rows)


def level_table(comparison: Comparison, *, caption: str) -> Table:
    """How loud the real audio and the systems are, one row each; nothing is marked: no level is better than another."""
    titles = {"real": "Real", **SYSTEM_TITLES}
    rows = [
        (titles[name], [Cell(level.shown(levels[level.key])) for level in LEVELS])
        for name, levels in comparison.levels.items()
    ]
    return Table(caption, ["", *(level.title for level in LEVELS)], rows)


def remarks(comparison: Comparison, differences: Mapping[str, str]) -> str:
    """What every caption says besides: on how many clips one system alone failed, and what differs between the
    systems."""
    failed = ", ".join(f"{system} {comparison.failed[system]}" for system in SYSTEMS)
    said = f"Clips without usable sound from one system alone: {failed}."
    if differences:
        said += f" Not the same: {'; '.join(f'{TITLES[key]} {text}' for key, text in differences.items())}."
    return said


def _change_cells(metric: Metric, change: Difference, *, no_change: float) -> list[Cell]:
    mark = verdict(metric, change, no_change=no_change)
    low, high = change.low - no_change, change.high - no_change
    return [
        Cell(_number(change.value - no_change, metric, sign="+"), _interval(low, high, metric, sign="+"), mark),
        Cell(f"{change.p_two_sided:.4f}"),
        Cell(VERDICTS[mark], verdict=mark),
    ]


def _title(metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    # The arrow stays with its word where a browser breaks the line.
    return f"{metric.title}{unit}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def _number(value: float, metric: Metric, *, sign: str = "") -> str:
    return f"{value:{sign}.{metric.decimals}f}".replace("-", "−")


def _interval(low: float, high: float, metric: Metric, *, sign: str = "") -> str:
    return f"[{_number(low, metric, sign=sign)}, {_number(high, metric, sign=sign)}]"


def to_text(table: Table) -> str:
    """The table in columns padded with spaces, for a terminal."""
    lines = [list(table.columns)] + [[title, *map(_plain, cells)] for title, cells in table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([table.caption, "", padded[0], "  ".join("-" * width for width in widths), *padded[1:], ""])


def to_markdown(table: Table) -> str:
    """The table in Markdown, the caption above; what is significantly better stands in bold, worse in italics."""
    marks = {"better": "**", "worse": "_"}
    head = f"| {' | '.join(table.columns)} |\n|{' --- |' * len(table.columns)}"
    rows = []
    for title, cells in table.rows:
        texts = [f"{marks.get(cell.verdict, '')}{_plain(cell)}{marks.get(cell.verdict, '')}" for cell in cells]
        rows.append(f"| {' | '.join([title, *texts])} |")
    return "\n".join([table.caption, "", head, *rows, ""])


def to_html(table: Table, *, css_class: str = "") -> str:
    """The table in HTML: headers with a scope, cells with their column as `data-label`, the verdict as class and
    title."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = []
    for title, cells in table.rows:
        data = "".join(_html_cell(cell, label) for cell, label in zip(cells, table.columns[1:], strict=True))
        rows.append(f'<tr><th scope="row">{escape(title)}</th>{data}</tr>')
    caption = f"<caption>{escape(table.caption)}</caption>"
    return f'<table class="{css_class}">{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _html_cell(cell: Cell, label: str) -> str:
    attributes = f' class="{cell.verdict}" title="{VERDICTS[cell.verdict]}"' if cell.verdict else ""
    interval = f" <small>{escape(cell.interval)}</small>" if cell.interval else ""
    return f'<td data-label="{escape(label)}"{attributes}>{escape(cell.text)}{interval}</td>'


def _plain(cell: Cell) -> str:
    return f"{cell.text} {cell.interval}".strip()
