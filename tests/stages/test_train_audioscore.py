"""The stage from rated candidates to the classifier's folder."""

import json

import numpy as np
import pytest

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import LABELS, RATINGS, SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import AudioScore
from v2a_dpo.stages.train_audioscore import train_audioscore

PARAMS = Params(audioscore={"hidden_size": 8, "max_steps": 80, "patience": 20})


def write(folder, schema, rows):
    inputs = {"scorers": "ours"} if schema is SCORES else {}
    build_dataset(
        str(folder),
        schema,
        parameters={},
        inputs=inputs,
        tasks=[ShardTask(rows, [repr(rows)])],
        code=NO_CODE,
        make=ShardContent,
    )


@pytest.fixture
def rated(tmp_path):
    random = np.random.default_rng(0)
    scores, ratings = [], []
    for clip in range(24):
        for sample in range(5):
            values = random.standard_normal(5)
            key = {"clip_id": f"clip{clip}", "sample": sample}
            scores.append(
                {**key, **dict(zip(SCORE_NAMES, values.tolist(), strict=True)), "pesq": None, "missing": None}
            )
            label = LABELS[2 - int(np.searchsorted([-0.43, 0.43], values[0]))]
            ratings.append({**key, "rating": label, "rater": "r", "source": "simulated"})
    write(tmp_path / "scores", SCORES, scores)
    write(tmp_path / "ratings", RATINGS, [*ratings, {**ratings[0], "clip_id": "never scored"}])
    return tmp_path


def run(folder, params=PARAMS):
    return train_audioscore(
        params, scores=str(folder / "scores"), ratings=str(folder / "ratings"), output=str(folder / "audioscore")
    )


def test_the_stage_writes_a_model_that_beats_the_commonest_label_and_its_measures(rated):
    summary = run(rated)
    assert "mining refuses" not in str(summary)
    metrics = json.loads((rated / "audioscore" / "metrics.json").read_text())
    assert summary.accuracy > summary.majority_accuracy + 0.2
    assert metrics["clips"] == {"training": 18, "validation": 6}
    assert np.sum(metrics["validation"]["confusion"]) == 30
    assert metrics["ratings_without_scores"] == 1
    assert metrics["inputs"]["scorers"] == "ours"
    assert metrics["sources"] == {"simulated": 120}
    assert set(metrics["ablation"]) == {"method", *SCORE_NAMES}
    probabilities = AudioScore.load(str(rated / "audioscore")).probabilities(
        np.array([[2.0, 0, 0, 0, 0], [-2.0, 0, 0, 0, 0]])
    )
    assert probabilities[0, 0] > 0.5 > probabilities[1, 0]


def test_the_same_inputs_give_the_same_bytes(rated):
    run(rated)
    first = {path.name: path.read_bytes() for path in (rated / "audioscore").iterdir()}
    run(rated)
    assert first == {path.name: path.read_bytes() for path in (rated / "audioscore").iterdir()}


def test_ratings_of_unscored_candidates_alone_are_refused(rated):
    write(
        rated / "ratings", RATINGS, [{"clip_id": "x", "sample": 0, "rating": "good", "rater": "r", "source": "human"}]
    )
    with pytest.raises(UserError, match="No rated candidate"):
        run(rated)


def test_an_unknown_label_is_named(rated):
    write(
        rated / "ratings",
        RATINGS,
        [{"clip_id": "clip0", "sample": 0, "rating": "Great", "rater": "r", "source": "human"}],
    )
    with pytest.raises(UserError, match="'Great'"):
        run(rated)


def test_a_learning_rate_that_diverges_is_an_error_that_names_it_and_leaves_no_model(rated):
    params = Params(audioscore={**PARAMS.audioscore.model_dump(), "learning_rate": 1e30})
    with pytest.raises(UserError, match=r"AudioScore diverged: the .* loss is (nan|inf)") as caught:
        run(rated, params)
    assert caught.value.where == "audioscore.learning_rate"
    assert not (rated / "audioscore").exists()


def test_measures_are_json_that_every_reader_takes(rated):
    """One label alone: nothing to rank, no correlation; JSON knows no NaN."""
    rows = [row | {"rating": "good"} for row in Dataset.open(str(rated / "ratings"), RATINGS).table().to_pylist()]
    write(rated / "ratings", RATINGS, rows)
    assert "mining refuses" in str(run(rated))
    text = (rated / "audioscore" / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert metrics["validation"]["rank_correlation"] is None
    assert metrics["validation"]["accuracy"] == metrics["validation"]["majority_accuracy"] == 1.0
