"""Ratings from a CSV file: what is accepted, and how mistakes are named."""

import pytest

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
            "clip_id": clip, "sample": sample, "seed": 0, "steps": 1, "guidance_scale": 1.0, "use_text": True, "sample_rate": 16000,
            "latent": bytes(8), "audio": {"bytes": b"", "path": None},
        }
        for clip in ("a", "ß")
        for sample in (0, 1)
    ]  # fmt: skip
    schema = candidates_schema(TensorType("float16", (2, 2)))
    folder = str(tmp_path / "candidates")
    build_dataset(folder, schema, parameters={}, inputs={}, tasks=[ShardTask(rows, [])], make=ShardContent)

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
    with pytest.raises(UserError, match="no rating"):
        imported(HEADER)


def test_another_encoding_is_refused(imported):
    with pytest.raises(UserError, match="UTF-8"):
        imported(HEADER + "ß,0,good,jo,human\n", encoding="latin-1")
