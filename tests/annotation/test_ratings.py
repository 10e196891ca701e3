"""Ratings from a CSV file: what is accepted, and how mistakes are named."""

import pytest

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import RATINGS, TensorType, candidates_schema
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.stages.import_ratings import import_ratings

HEADER = "clip_id,sample,rating,rater,source\n"


@pytest.fixture
def imported(tmp_path):
    """Imports a CSV text for the candidates 0 and 1 of the clips `a` and `ß`; returns the rows."""
    rows = [
        {
            "clip_id": clip, "sample": sample, "seed": 0, "steps": 1, "guidance_scale": 1.0, "use_text": True,
            "sample_rate": 16000, "latent": bytes(8), "audio": {"bytes": b"", "path": None},
        }
        for clip in ("a", "ß")
        for sample in (0, 1)
    ]  # fmt: skip
    schema = candidates_schema(TensorType("float16", (2, 2)))
    folder = str(tmp_path / "candidates")
    build_dataset(
        folder, schema, parameters={}, inputs={}, tasks=[ShardTask(rows, [])], code=NO_CODE, make=ShardContent
    )

    def run(text, encoding="utf-8"):
        (tmp_path / "ratings.csv").write_bytes(text.encode(encoding))
        output = str(tmp_path / "ratings")
        import_ratings(Params(), csv=str(tmp_path / "ratings.csv"), candidates=folder, output=output)
        return Dataset.open(output, RATINGS).table().to_pylist()

    return run


def test_ratings_are_imported_in_key_order_with_lower_case_labels(imported):
    rows = imported(HEADER + "ß,1,Bad,jo,human\na,0,GOOD,jo,Human\na,0,medium,al,human\n", encoding="utf-8-sig")
    assert [tuple(row.values()) for row in rows] == [
        ("a", 0, "medium", "al", "human"),
        ("a", 0, "good", "jo", "human"),
        ("ß", 1, "bad", "jo", "human"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,0,great,jo,human", "line 3, rating: 'great' is none of good, medium, bad"),
        ("a,zero,good,jo,human", "line 3, sample: 'zero' is not a whole number"),
        ("a,7,good,jo,human", "line 3, sample: there is no candidate 7 of clip 'a'"),
        ("a,0,good,,human", "line 3, rater: it is empty"),
        ("a,0,good,jo,robot", "line 3, source: 'robot' is none of human, simulated"),
        ("a,1,bad,jo,human", "line 3, rater: 'jo' rated this candidate before"),
        ("a,0", "line 3, rater: it is empty"),
        ("a,0.5,good,jo,human", "line 3, sample: '0.5' is not a whole number"),
        ("a,0,good,jo,human,late, loud", "line 3, it has 7 cells where 5 are expected"),
    ],
)
def test_a_mistake_is_named_by_line_and_field(imported, line, message):
    with pytest.raises(UserError, match=message):
        imported(HEADER + "a,1,good,jo,human\n" + line + "\n")


def test_all_mistakes_are_counted_but_only_the_first_are_shown(imported):
    with pytest.raises(UserError, match=r"line 2.*line 6.*and 3 more"):
        imported(HEADER + "a,0,great,jo,human\n" * 8)


def test_a_missing_column_and_an_empty_file_are_refused(imported):
    with pytest.raises(UserError, match="lacks rater, source"):
        imported("clip_id,sample,rating\n")
    with pytest.raises(UserError, match="lacks clip_id, sample, rating, rater, source; it is: empty"):
        imported("")
    with pytest.raises(UserError, match="no rating"):
        imported(HEADER)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("clip_id;sample;rating;rater;source\na;0;good;jo;human\na;1;bad;jo;human\n;;;;\n", "utf-8-sig"),
        ("clip_id\tsample\trating\trater\tsource\na\t0\tgood\tjo\thuman\na\t1\tbad\tjo\thuman\n\t\t\t\t\n", "utf-16"),
        (" Clip_ID , Sample,Rating ,RATER,source,\na,0.0,good,jo,human,\na,1.0,bad,jo,human,\n,,,,,\n\n", "utf-8"),
        ("clip id;sample;rating;rater;source\r\na;0,0;good;jo;human\r\na;1,0;bad;jo;human\r\n", "utf-8"),
        (
            'remark,clip_id,sample,rating,rater,source\n"so ""tinny"", late",a,0,good,jo,human\n5" '
            "off,a,1,bad,jo,human\n",
            "utf-8",
        ),
        (
            ',clip_id,sample,rating,rater,source,remark\n0,a,0,good,jo,human,"two\nlines"\n1,a,1,bad,jo,human,\n',
            "utf-8",
        ),
        (
            'clip_id\tsample\trating\trater\tsource\tremark\na\t0\tgood\tjo\thuman\t"boom\n'
            'a\t1\tbad\tjo\thuman\t"x" y\n',
            "utf-8",
        ),
    ],
)
def test_ratings_are_imported_as_spreadsheets_write_them(imported, text, encoding):
    rows = imported(text, encoding)
    assert [tuple(row.values()) for row in rows] == [("a", 0, "good", "jo", "human"), ("a", 1, "bad", "jo", "human")]


@pytest.mark.parametrize(
    ("remarks", "message"),
    [
        (['"tinny" voice', "", ""], "Line 2 has text behind a closing quotation mark"),
        (["", '"boom, too late', ""], "Line 3 opens a quotation mark and does not close it"),
        (['"boom', '', 'stop"'], "Line 2 opens a quotation mark and does not close it: line 3 would be part of it"),
    ],
)  # fmt: skip
def test_a_remark_with_quotation_marks_never_costs_a_rating_without_a_word(imported, remarks, message):
    header = HEADER.replace("source", "source,remark")
    lines = [f"a,{n % 2},good,rater-{n},human,{remark}\n" for n, remark in enumerate(remarks)]
    with pytest.raises(UserError, match=message):
        imported(header + "".join(lines))


def test_mistakes_are_named_by_the_lines_of_the_file(imported):
    with pytest.raises(UserError, match="line 5, rating: 'great'"):
        imported(HEADER.replace("source", "source,remark") + '\na,0,good,jo,human,"two\nlines"\na,1,great,jo,human,\n')


def test_another_encoding_is_refused(imported):
    with pytest.raises(UserError, match="UTF-8"):
        imported(HEADER + "ß,0,good,jo,human\n", encoding="latin-1")
