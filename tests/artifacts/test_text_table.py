from __future__ import annotations

import gzip

import pytest

from v2a_dpo.artifacts.text_table import column_names, read_table, write_csv
from v2a_dpo.errors import UserError


@pytest.fixture
def table(tmp_path):
    """Reads a text, or bytes, as the rows (line number, cells)."""

    def read(content):
        (tmp_path / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return [(line.number, line.cells) for line in read_table(str(tmp_path / "table.csv"))]

    return read


def test_tab_separated_text_knows_no_quotation_marks(table):
    text = 'id\tlabel\n1\t"never closed\n2\tan engine "purrs"\n3\t"Stop" is heard\n4\train, then wind\n'
    assert table(text) == [
        (1, ["id", "label"]),
        (2, ["1", '"never closed']),
        (3, ["2", 'an engine "purrs"']),
        (4, ["3", '"Stop" is heard']),
        (5, ["4", "rain, then wind"]),
    ]


def test_commas_and_quotation_marks_inside_a_quoted_field_are_text(table):
    text = 'id,label\n1,"a ""bell"", ringing"\n2, "a, b" ,\n3,5" pipe\n'
    with pytest.raises(UserError, match="Line 3 has text behind a closing quotation mark"):
        table(text)
    assert table(text.replace(' "a, b" ', ' "a, b"')) == [
        (1, ["id", "label"]),
        (2, ["1", 'a "bell", ringing']),
        (3, ["2", "a, b"]),
        (4, ["3", '5" pipe']),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,label\n1,"never closed\n2,b\n3,c\n', 2),
        ('id,label\n1,a\n2,"closed by the next ""one\n3,b "quoted" c\n', 3),
        ('id,who,note\n1,a,"opened\n2,b,closed"\n3,c,d\n', 2),
        ('id,who,note\n1,a,"opened\n2,b,c\n3,c,said ""hi""\n4,d,closed"\n', 2),
        ('id;note\n1;"opened\n2;closed"\n', 2),
    ],
)
def test_a_quotation_mark_that_is_left_open_is_named_by_its_line_and_takes_no_row_in(table, text, line):
    with pytest.raises(UserError, match=f"Line {line} opens a quotation mark and does not close it") as caught:
        table(text)
    assert caught.value.where.endswith("table.csv")


def test_a_field_may_go_over_several_lines_and_numbers_stay_those_of_the_file(table):
    assert table('id,who,note\r\n1,a,"too\r\nloud"\r\n\r\n,,\r\n2,b,c\r\n') == [
        (1, ["id", "who", "note"]),
        (2, ["1", "a", "too\nloud"]),
        (6, ["2", "b", "c"]),
    ]


@pytest.mark.parametrize("text", ["id,label\n1,{}\n", 'id,label\n1,"{}"\n', "id\tlabel\n1\t{}\n"])
def test_a_field_may_be_long(table, text):
    assert table(text.format("x" * 200_000))[1] == (2, ["1", "x" * 200_000])


@pytest.mark.parametrize(
    "content",
    [
        "a;b\n1;x, y\n",
        "sep=;\na;b\n1;x, y\n",
        "a\tb\n1\tx, y\n",
        'a,b\r1,"x, y"\r',
        "\n\n a ; b ;;\n 1 ; x, y ;;\n;;;\n",
        "\ufeffa;b\n1;x, y\n",
        "a;b\n1;x, y\n".encode("utf-16"),
        "a;b\n1;x, y\n".encode("utf-16-be").join([b"\xfe\xff", b""]),
        gzip.compress(b"a;b\n1;x, y\n", mtime=0),
    ],
)
def test_what_spreadsheets_write_is_understood(table, content):
    assert [cells for _, cells in table(content)] == [["a", "b"], ["1", "x, y"]]


def test_a_cell_without_a_column_is_kept_for_whoever_checks_the_row(table):
    assert table("a,b,,\n1,2,,3\n4\n5,,\n") == [(1, ["a", "b"]), (2, ["1", "2", "", "3"]), (3, ["4"]), (4, ["5", ""])]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1,2\n".encode("utf-16-le"), "contains zeros, as UTF-16"),
        ("a,b\n1,ß\n".encode("latin-1"), "cannot be read"),
        (b"PK\x03\x04 workbook", "spreadsheet or a zip file"),
        (gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-20], "cannot be read"),
    ],
)
def test_what_is_no_text_is_refused_with_its_reason(table, content, reason):
    with pytest.raises(UserError, match=reason) as caught:
        table(content)
    assert "UTF-8" in str(caught.value)


def test_names_of_columns_are_compared_without_capitals_and_spaces(table, tmp_path):
    table("Clip ID, Sample ,RATING\n")
    (header,) = read_table(str(tmp_path / "table.csv"))
    assert column_names(header, "table.csv") == ["clip_id", "sample", "rating"]
    table("\nrating,sample,Rating\n")
    (header,) = read_table(str(tmp_path / "table.csv"))
    with pytest.raises(UserError, match=r"Line 2 has two columns rating.*table\.csv"):
        column_names(header, "table.csv")


def test_a_written_table_reads_back_cell_by_cell(tmp_path):
    uri = str(tmp_path / "new" / "table.csv")
    write_csv(uri, ["name", "text"], [["a", 'with "quotes", commas\nand lines'], [1.5, None]])
    assert (tmp_path / "new" / "table.csv").read_bytes().startswith(b"name,text\na,")
    assert [row.cells for row in read_table(uri)] == [
        ["name", "text"],
        ["a", 'with "quotes", commas\nand lines'],
        ["1.5", ""],
    ]
