from dataclasses import replace

import pytest

from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison, WinRate
from v2a_dpo.evaluation.report.sections import findings, result_section
from v2a_dpo.evaluation.tables import (
    Cell,
    Table,
    difference_table,
    paper_table,
    result_tables,
    to_html,
    to_markdown,
    to_text,
)

BASE = {
    "fd_passt": Interval(17.3, 16.0, 19.0),
    "ib_score": Interval(49.4, 47.0, 52.0),
    "rater_quality": Interval(0.694, 0.67, 0.72),
}
ALIGNED = {
    "fd_passt": Interval(18.2, 17.0, 20.0),
    "ib_score": Interval(54.5, 52.0, 57.0),
    "rater_quality": Interval(0.6, 0.5, 0.7),
}
CHANGES = {
    "fd_passt": Difference(0.9, -0.4, 2.2, 0.9, 0.18),
    "ib_score": Difference(5.1, 3.0, 7.2, 0.0005, 0.001),
    "rater_quality": Difference(-0.094, -0.12, -0.05, 1.0, 0.001),
}
COMPARISON = Comparison(
    clips=192,
    reference="base",
    systems={"base": BASE, "aligned": ALIGNED},
    differences={"aligned": CHANGES},
    win_rate={"aligned": WinRate(0.625, 0.55, 0.7, 0.001, 0.002, clips=192)},
    counts={"fd_passt": 192, "ib_score": 192, "rater_quality": 192},
    failed={"base": 0, "aligned": 0},
    bootstrap=BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0),
)
SUMMARY = {
    "profile": "tiny",
    "rater": "rater",
    "differences": {},
    "sampling": {name: {"guidance_scale": 4.5, "steps": 25} for name in ("base", "aligned")},
}


def test_the_papers_table_has_a_row_a_system_and_intervals():
    table = paper_table(COMPARISON, caption="Results.", rater="simulated rater")
    assert [title for title, _ in table.rows] == ["Base", "Aligned"]
    assert [column.split("\N{NO-BREAK SPACE}")[0] for column in table.columns] == [
        "",
        "FD (PaSST)",
        "IB-score",
        "Quality (simulated rater)",
    ]
    text = to_text(table)
    assert "17.30 [16.00, 19.00]" in text
    assert "54.50 [52.00, 57.00]" in text


def test_markdown_marks_better_and_worse_and_leaves_the_unclear_alone():
    lines = to_markdown(paper_table(COMPARISON, caption="Results.", rater="rater")).splitlines()
    assert lines[-1] == "| Aligned | 18.20 [17.00, 20.00] | **54.50 [52.00, 57.00]** | _0.600 [0.500, 0.700]_ |"


def test_differences_say_in_words_what_they_are_and_the_win_rate_is_against_one_half():
    rows = dict(difference_table(COMPARISON, "aligned", caption="", rater="simulated rater").rows)
    words = {title.split("\N{NO-BREAK SPACE}")[0]: cells[-1].text for title, cells in rows.items()}
    assert words == {
        "FD (PaSST)": "no clear difference",
        "IB-score": "better",
        "Quality (simulated rater)": "worse",
        "Win rate (simulated rater)": "better",
    }
    wins = next(cells for title, cells in rows.items() if title.startswith("Win rate"))
    assert (wins[2].text, wins[2].interval) == ("+0.125", "[+0.050, +0.200]")


@pytest.fixture
def three():
    """The comparison with one more system, which nobody rated against the base."""
    worse = {**CHANGES, "fd_passt": Difference(4.0, 2.0, 6.0, 1.0, 0.001)}
    systems = {**COMPARISON.systems, "other model": {**ALIGNED, "fd_passt": Interval(21.3, 20.0, 23.0)}}
    return replace(COMPARISON, systems=systems, differences={"aligned": CHANGES, "other model": worse})


def test_three_systems_have_a_row_each_and_a_table_of_differences_for_each_but_the_reference_system(three):
    sampling = {**SUMMARY["sampling"], "other model": {"guidance_scale": 3.0, "steps": 25}}
    paper, aligned, other, levels = result_tables(three, {**SUMMARY, "sampling": sampling})
    assert "guidance scale 4.5 (base), 4.5 (aligned) and 3 (other model), 25 steps" in paper.caption
    assert [title for title, _ in paper.rows] == ["Base", "Aligned", "Other model"]
    assert [[cell.verdict for cell in cells] for _, cells in paper.rows] == [
        ["", "", ""],
        ["unclear", "better", "worse"],
        ["worse", "better", "worse"],
    ]
    assert aligned.caption.startswith("Aligned minus base (")
    assert other.caption.startswith("Other model minus base (")
    assert other.columns == ["Metric", "Base", "Other model", "Difference", "p", "Other model is"]
    assert [cell.text for cell in other.rows[0][1]] == ["17.30", "21.30", "+4.00", "0.0010", "worse"]
    assert [len(table.rows) for table in (aligned, other)] == [4, 3], "only one of the two was rated against the base"
    assert levels.rows == []


def test_the_report_of_three_systems_names_the_system_of_each_finding_and_has_a_chart_for_each(three):
    assert dict(findings(three, rater="rater")) == {
        "better": ["IB-score of aligned", "Win rate (rater) of aligned", "IB-score of other model"],
        "worse": ["Quality (rater) of aligned", "FD (PaSST) of other model", "Quality (rater) of other model"],
        "unclear": ["FD (PaSST) of aligned"],
    }
    html = "".join(result_section(three, SUMMARY, rater="rater").blocks)
    assert html.count("<table") == 4
    for system in ("aligned", "other model"):
        assert f"Improvement of {system} over base" in html


def test_html_escapes_what_it_shows():
    html = to_html(Table("a < b", ["", "<i>"], [("R&D", [Cell("1")])]))
    assert "<caption>a &lt; b</caption>" in html
    assert "&lt;i&gt;" in html
    assert "R&amp;D" in html


def test_html_verdicts_do_not_depend_on_colour():
    html = to_html(difference_table(COMPARISON, "aligned", caption="", rater="rater"))
    assert 'class="worse" title="worse">worse</td>' in html
    assert "no clear difference</td>" in html
