from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import NO_FAILURES, BootstrapSettings, Comparison
from v2a_dpo.evaluation.tables import Cell, Table, difference_table, paper_table, to_html, to_markdown, to_text

COMPARISON = Comparison(
    clips=192,
    intervals={
        "base": {
            "fd_passt": Interval(17.3, 16.0, 19.0),
            "ib_score": Interval(49.4, 47.0, 52.0),
            "rater_quality": Interval(0.694, 0.67, 0.72),
        },
        "aligned": {
            "fd_passt": Interval(18.2, 17.0, 20.0),
            "ib_score": Interval(54.5, 52.0, 57.0),
            "rater_quality": Interval(0.6, 0.5, 0.7),
        },
    },
    differences={
        "fd_passt": Difference(0.9, -0.4, 2.2, 0.9, 0.18),
        "ib_score": Difference(5.1, 3.0, 7.2, 0.0005, 0.001),
        "rater_quality": Difference(-0.094, -0.12, -0.05, 1.0, 0.001),
    },
    win_rate=Difference(0.625, 0.55, 0.7, 0.001, 0.002),
    counts={"fd_passt": 192, "ib_score": 192, "rater_quality": 192},
    failed=NO_FAILURES,
    bootstrap=BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0),
)


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
    rows = dict(difference_table(COMPARISON, caption="", rater="simulated rater").rows)
    words = {title.split("\N{NO-BREAK SPACE}")[0]: cells[-1].text for title, cells in rows.items()}
    assert words == {
        "FD (PaSST)": "no clear difference",
        "IB-score": "better",
        "Quality (simulated rater)": "worse",
        "Win rate (simulated rater)": "better",
    }
    wins = next(cells for title, cells in rows.items() if title.startswith("Win rate"))
    assert (wins[2].text, wins[2].interval) == ("+0.125", "[+0.050, +0.200]")


def test_html_escapes_what_it_shows():
    html = to_html(Table("a < b", ["", "<i>"], [("R&D", [Cell("1")])]))
    assert "<caption>a &lt; b</caption>" in html
    assert "&lt;i&gt;" in html
    assert "R&amp;D" in html


def test_html_verdicts_do_not_depend_on_colour():
    html = to_html(difference_table(COMPARISON, caption="", rater="rater"))
    assert 'class="worse" title="worse">worse</td>' in html
    assert "no clear difference</td>" in html
