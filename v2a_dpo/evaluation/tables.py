"""Result tables: the paper's Table 1 with intervals, and the paired differences; as text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.levels import LEVELS
from v2a_dpo.evaluation.metrics import METRICS, WIN_RATE, Comparison, Metric, verdict
from v2a_dpo.evaluation.sampling import TITLES, shown_setting

#: How a verdict is written: never by colour alone.
VERDICTS = {"better": "better", "worse": "worse", "unclear": "no clear difference"}


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


def result_tables(comparison: Comparison, summary: Mapping[str, Any]) -> list[Table]:
    """The systems' metrics, the differences of each system to the reference system, and the levels.

    The captions name the settings in `summary`, the content of `summary.json`.
    """
    percent = f"{100 * comparison.bootstrap.confidence:g}%"
    rater, sampling = summary["rater"] or "rater", summary["sampling"]
    remark = remarks(comparison, summary["differences"])
    settings = (
        f"{summary['profile']} profile, {comparison.clips} test clips, guidance scale "
        f"{shown_setting(sampling, 'guidance_scale')}, {shown_setting(sampling, 'steps')} steps"
    )
    noise = "" if "seed" in summary["differences"] else " and noise"
    values = f"Results ({settings}) with {percent} bootstrap intervals over clips. {remark}"
    changes = f"({settings}): paired differences on the same clips{noise}, {percent} bootstrap intervals. {remark}"
    levels = f"Levels ({settings}): means over clips, neither better nor worse. {remark}"
    return [
        paper_table(comparison, caption=values, rater=rater),
        *(
            difference_table(
                comparison,
                system,
                caption=f"{system_title(system)} minus {comparison.reference} {changes}",
                rater=rater,
            )
            for system in comparison.others
        ),
        level_table(comparison, caption=levels),
    ]


def system_title(name: str) -> str:
    """The name of a system at the start of a line or a column."""
    return name[:1].upper() + name[1:]


def metric_title(metric: Metric) -> str:
    """The metric's title with its unit, and an arrow in its better direction."""
    unit = f" {metric.unit}" if metric.unit else ""
    # The arrow stays with its word where a browser breaks the line.
    return f"{metric.title}{unit}\N{NO-BREAK SPACE}{'↑' if metric.higher_is_better else '↓'}"


def shown_metrics(comparison: Comparison, *, rater: str) -> list[Metric]:
    """The metrics this comparison has, in the tables' order, with the rater's name in the title."""
    present = [metric for metric in METRICS if metric.key in comparison.systems[comparison.reference]]
    return [
        replace(metric, title=f"Quality ({rater})") if metric.key == "rater_quality" else metric for metric in present
    ]


def paper_table(comparison: Comparison, *, caption: str, rater: str) -> Table:
    """One row per system and one column per metric, with intervals; the arrows show which way is better.

    The paper's Table 1 also has other systems' published rows and a column of parameter counts.
    """
    metrics = shown_metrics(comparison, rater=rater)
    rows = []
    for system, intervals in comparison.systems.items():
        changes = comparison.differences.get(system, {})
        cells = []
        for metric in metrics:
            own = intervals[metric.key]
            mark = verdict(metric, changes[metric.key]) if metric.key in changes else ""
            cells.append(Cell(_number(own.value, metric), _interval(own.low, own.high, metric), mark))
        rows.append((system_title(system), cells))
    return Table(caption, ["", *(metric_title(metric) for metric in metrics)], rows)


def difference_table(comparison: Comparison, system: str, *, caption: str, rater: str) -> Table:
    """One row per metric: the reference system, `system`, the paired difference with its interval, two-sided p, and
    the verdict in words."""
    rows = []
    for metric in shown_metrics(comparison, rater=rater):
        change = comparison.differences[system][metric.key]
        values = [
            Cell(_number(comparison.systems[name][metric.key].value, metric)) for name in (comparison.reference, system)
        ]
        rows.append((metric_title(metric), [*values, *_change_cells(metric, change, no_change=0.0)]))
    if system in comparison.win_rate:
        metric, won = replace(WIN_RATE, title=f"Win rate ({rater})"), comparison.win_rate[system]
        rate = Cell(_number(won.value, metric))
        rows.append((metric_title(metric), [Cell("–"), rate, *_change_cells(metric, won, no_change=0.5)]))
    reference, title = system_title(comparison.reference), system_title(system)
    return Table(caption, ["Metric", reference, title, "Difference", "p", f"{title} is"], rows)


def level_table(comparison: Comparison, *, caption: str) -> Table:
    """How loud the real audio and the systems are, one row each; nothing is marked: no level is better than another."""
    rows = [
        (system_title(name), [Cell(level.shown(levels[level.key])) for level in LEVELS])
        for name, levels in comparison.levels.items()
    ]
    return Table(caption, ["", *(level.title for level in LEVELS)], rows)


def remarks(comparison: Comparison, differences: Mapping[str, str]) -> str:
    """The end of every caption: on how many clips not all systems made sound, and what differs between them."""
    failed = ", ".join(f"{system} {count}" for system, count in comparison.failed.items())
    remark = f"Clips without usable sound, though another system made some: {failed}."
    if differences:
        remark += f" Not the same: {'; '.join(f'{TITLES[key]} {text}' for key, text in differences.items())}."
    return remark


def _change_cells(metric: Metric, change: Difference, *, no_change: float) -> list[Cell]:
    mark = verdict(metric, change, no_change=no_change)
    low, high = change.low - no_change, change.high - no_change
    return [
        Cell(_number(change.value - no_change, metric, sign="+"), _interval(low, high, metric, sign="+"), mark),
        Cell(f"{change.p_two_sided:.4f}"),
        Cell(VERDICTS[mark], verdict=mark),
    ]


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
