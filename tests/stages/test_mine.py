"""The mining stage: shards in, pairs and a summary out."""

import json

import numpy as np
import pytest

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import PAIRS, RATINGS, SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import AudioScore
from v2a_dpo.stages.mine import mine

GOOD_MEASURES = {"ratings": 100, "accuracy": 0.6, "majority_accuracy": 0.4}


def write(folder, schema, *shards, **inputs):
    tasks = [ShardTask(rows, [repr(rows)]) for rows in shards]
    if schema is SCORES:
        inputs = {"scorers": "ours", **inputs}
    build_dataset(str(folder), schema, parameters={}, inputs=inputs, tasks=tasks, code=NO_CODE, make=ShardContent)


def scores(clips, *, seed=0):
    values = np.random.default_rng(seed).standard_normal((len(clips), 5, 5))
    return [
        {
            "clip_id": clip,
            "sample": k,
            **dict(zip(SCORE_NAMES, values[c, k].tolist(), strict=True)),
            "pesq": None,
            "missing": None,
        }
        for c, clip in enumerate(clips)
        for k in range(5)
    ]


@pytest.fixture
def folder(tmp_path):
    """Two shards of scores and a classifier by which Good is a high first score and Bad a low one."""
    one, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    first = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], np.float32)
    labels = np.array([[2, -2], [0, 0], [-2, 2]], np.float32)
    audioscore = AudioScore(zero, one, first, zero[:2], labels, zero[:3])
    measures = json.dumps({"inputs": {"scorers": "ours"}, "validation": GOOD_MEASURES}).encode()
    audioscore.save(str(tmp_path / "audioscore"), {"metrics.json": measures})
    write(tmp_path / "scores", SCORES, scores(["a", "b", "c"]), scores(["d", "e"], seed=1))
    return tmp_path


def run(folder, *, params=None, **options):
    mined = mine(
        params or Params(mine={"threshold": {"quantile": 0.5}}),
        scores=str(folder / "scores"), audioscore=str(folder / "audioscore"), output=str(folder / "pairs"), **options,
    )  # fmt: skip
    return mined, Dataset.open(str(folder / "pairs"), PAIRS).table().to_pylist()


def test_every_clip_of_every_shard_gives_its_best_against_its_worst(folder):
    summary, pairs = run(folder)
    first = {
        (row["clip_id"], row["sample"]): row["imagebind"]
        for row in [*scores(["a", "b", "c"]), *scores(["d", "e"], seed=1)]
    }
    assert [pair["clip_id"] for pair in pairs] == list("abcde")
    for pair in pairs:
        own = [first[pair["clip_id"], sample] for sample in range(5)]
        assert (pair["winner"], pair["loser"]) == (int(np.argmax(own)), int(np.argmin(own)))
        gaps = pair["winner_good"] - pair["loser_good"], pair["loser_bad"] - pair["winner_bad"]
        assert pair["complexity"] == pytest.approx(sum(gaps) / 2, rel=1e-5)
    assert summary.phases == {"easy": 2, "hard": 3}
    assert sum(summary.histogram) == 5


def test_the_pairs_name_the_candidates_that_their_scores_were_made_of(folder):
    rated = [{"clip_id": "x", "sample": k, "rating": rating, "rater": "r", "source": "human"}
             for k, rating in enumerate(("good", "bad"))]  # fmt: skip
    write(folder / "ratings", RATINGS, rated)
    write(folder / "rated", SCORES, scores(["x"]), candidates="of the rated")
    write(folder / "scores", SCORES, scores(["a", "b"]), candidates="of the mined")
    run(folder, ratings=str(folder / "ratings"), rated_scores=str(folder / "rated"))
    inputs = Dataset.open(str(folder / "pairs"), PAIRS).manifest.inputs
    assert (inputs["candidates"], inputs["rated_candidates"]) == ("of the mined", "of the rated")


def test_the_summary_is_written_beside_the_pairs(folder):
    summary, _ = run(folder)
    written = json.loads((folder / "pairs-summary.json").read_text())
    assert written["pairs"] == {"audioscore": 5}
    assert written["dropped"] == {"too_few_candidates": 0, "tie": 0, "same_candidate": 0, "small_margin": 0}
    assert written["threshold"] == summary.threshold


def test_sharding_does_not_change_the_pairs(folder):
    _, before = run(folder)
    write(folder / "scores", SCORES, scores(["a", "b", "c"]) + scores(["d", "e"], seed=1))
    assert run(folder)[1] == before


def test_a_clip_spread_over_shards_is_refused_by_name(folder):
    rows = scores(["a", "b"])
    write(folder / "scores", SCORES, rows[:7], rows[7:])
    with pytest.raises(UserError, match=r"'b'.*part-00001"):
        run(folder)


def test_rated_clips_give_pairs_of_complexity_zero_and_are_not_mined_again(folder):
    write(
        folder / "ratings",
        RATINGS,
        [
            {"clip_id": clip, "sample": sample, "rating": rating, "rater": "r", "source": "simulated"}
            for clip in ("a", "z")
            for sample, rating in ((3, "bad"), (4, "good"))
        ],
    )
    summary, pairs = run(folder, ratings=str(folder / "ratings"), rated_scores=str(folder / "scores"))
    rated = {pair["clip_id"]: pair for pair in pairs if pair["source"] == "simulated"}
    assert [(p["winner"], p["loser"], p["complexity"], p["phase"]) for p in rated.values()] == [(4, 3, 0.0, "hard")] * 2
    assert rated["a"]["winner_good"] is not None
    assert rated["z"]["winner_good"] is None
    assert sorted(pair["clip_id"] for pair in pairs) == ["a", "b", "c", "d", "e", "z"]
    assert (summary.clips, summary.clips_rated) == (5, 1)
    without = Params(mine={"threshold": {"quantile": 0.5}, "human_pairs": False})
    assert len(run(folder, params=without, ratings=str(folder / "ratings"))[1]) == 5


def test_no_pair_at_all_is_an_error_that_says_which_rule(folder):
    with pytest.raises(UserError, match="'small_margin': 5"):
        run(folder, params=Params(mine={"min_margin": 1.0}))


def measured(folder, **validation):
    metrics = {"inputs": {"scorers": "ours"}, "validation": GOOD_MEASURES | validation}
    (folder / "audioscore" / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize("accuracy", [0.4, 0.3])
def test_an_audioscore_no_better_than_the_commonest_label_mines_only_when_asked_to(folder, accuracy):
    measured(folder, accuracy=accuracy)
    with pytest.raises(UserError, match=r"commonest label.*mine\.allow_weak_audioscore") as caught:
        run(folder)
    assert caught.value.where == str(folder / "audioscore" / "metrics.json")
    assert not (folder / "pairs").exists()
    allowed = Params(mine={"threshold": {"quantile": 0.5}, "allow_weak_audioscore": True})
    assert len(run(folder, params=allowed)[1]) == 5


def test_scores_of_other_scorers_than_audioscore_learned_from_are_refused_with_both_folders(folder):
    write(folder / "scores", SCORES, scores(["a", "b"]), scorers="others")
    with pytest.raises(UserError, match="other scorers") as caught:
        run(folder)
    assert str(folder / "scores") in caught.value.where
    assert str(folder / "audioscore") in caught.value.where


def test_rated_scores_must_be_of_the_same_scorers_too(folder):
    write(folder / "rated", SCORES, scores(["a"]), scorers="others")
    with pytest.raises(UserError, match="other scorers") as caught:
        run(folder, rated_scores=str(folder / "rated"))
    assert str(folder / "rated") in caught.value.where


def test_an_audioscore_without_measures_is_to_be_trained_again(folder):
    (folder / "audioscore" / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="Train it again"):
        run(folder)
