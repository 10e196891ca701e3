"""AudioScore: the softmax over labels, standardisation, missing scores, training, saving."""

import json

import numpy as np
import pyarrow as pa
import pytest

from v2a_dpo.artifacts.schema import SCORE_NAMES, SCORES
from v2a_dpo.config import AudioScoreConfig
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import AudioScore, score_matrix, softmax_over_labels
from v2a_dpo.preference.training import RatedScores, ablation, evaluate, fit, split_clips, standardisation

CONFIG = AudioScoreConfig(hidden_size=16, max_steps=300, patience=30)


def classifier(*, inputs: int = 5, seed: int = 0) -> AudioScore:
    draw = np.random.default_rng(seed).standard_normal
    return AudioScore(
        mean=draw(5).astype(np.float32),
        std=np.abs(draw(5)).astype(np.float32) + 0.5,
        hidden_weight=draw((8, inputs)).astype(np.float32),
        hidden_bias=draw(8).astype(np.float32),
        output_weight=draw((3, 8)).astype(np.float32),
        output_bias=draw(3).astype(np.float32),
    )


def rated(clips: int, *, seed: int, informative: str = "clap") -> RatedScores:
    """Five candidates a clip whose rating is the tercile of one score plus a little noise."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal((clips * 5, 5)).astype(np.float32)
    quality = scores[:, SCORE_NAMES.index(informative)] + 0.3 * random.standard_normal(clips * 5)
    label = 2 - np.searchsorted([-0.43, 0.43], quality)
    return RatedScores(np.repeat([f"clip{clip}" for clip in range(clips)], 5), scores, label)


def test_probabilities_match_five_naive_lines():
    audioscore, scores = classifier(), np.random.default_rng(1).standard_normal((7, 5))
    for row, probabilities in zip(scores, audioscore.probabilities(scores), strict=True):
        standard = (row - audioscore.mean) / audioscore.std
        hidden = [
            max(0.0, float(w @ standard + b))
            for w, b in zip(audioscore.hidden_weight, audioscore.hidden_bias, strict=True)
        ]
        logits = [
            float(w @ np.array(hidden) + b)
            for w, b in zip(audioscore.output_weight, audioscore.output_bias, strict=True)
        ]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


def test_probabilities_sum_to_one_over_labels_and_not_over_candidates():
    """The trap: a softmax over the candidates' axis still ranks candidates, so nothing else notices."""
    logits = np.array([[0.0, 1.0, 2.0], [5.0, 1.0, 0.0]])
    probabilities = softmax_over_labels(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 1])
    assert probabilities[0, 2] == pytest.approx(np.exp(2) / (1 + np.e + np.exp(2)))
    square = classifier().probabilities(np.random.default_rng(2).standard_normal((3, 5)))
    np.testing.assert_allclose(square.sum(axis=1), 1, rtol=1e-6)
    assert not np.allclose(square.sum(axis=0), 1)


def test_a_candidates_probabilities_do_not_depend_on_the_other_candidates():
    audioscore, scores = classifier(), np.random.default_rng(3).standard_normal((150_000, 5))
    everything = audioscore.probabilities(scores)
    np.testing.assert_allclose(
        audioscore.probabilities(scores[[7, 80_000, 149_999]]), everything[[7, 80_000, 149_999]], rtol=1e-5
    )


def test_a_missing_score_counts_as_the_training_mean():
    audioscore, scores = classifier(), np.random.default_rng(4).standard_normal((1, 5))
    missing, average = scores.copy(), scores.copy()
    missing[0, 4], average[0, 4] = np.nan, audioscore.mean[4]
    np.testing.assert_allclose(audioscore.probabilities(missing), audioscore.probabilities(average), rtol=1e-6)


def test_missing_indicators_tell_missing_from_average():
    audioscore, scores = classifier(inputs=10), np.random.default_rng(5).standard_normal((1, 5))
    missing, average = scores.copy(), scores.copy()
    missing[0, 4], average[0, 4] = np.nan, audioscore.mean[4]
    assert not np.allclose(audioscore.probabilities(missing), audioscore.probabilities(average))


def test_null_scores_become_nan_in_the_order_of_the_score_names():
    rows = [
        {"clip_id": "a", "sample": 0, "imagebind": 1.0, "clap": None, "desync": 3.0, "inception": 4.0, "pesq": None}
    ]
    matrix = score_matrix(pa.Table.from_pylist(rows, schema=SCORES.arrow))
    np.testing.assert_array_equal(matrix, np.array([[1, np.nan, 3, 4, np.nan]], dtype=np.float32))


def test_standardisation_ignores_missing_scores_and_constant_columns():
    scores = np.array([[1, 5, np.nan, 2, np.nan], [3, 5, 4, 2, np.nan]], dtype=np.float32)
    mean, std = standardisation(scores)
    np.testing.assert_allclose(mean, [2, 5, 4, 2, 0])
    np.testing.assert_allclose(std, [1, 1, 1, 1, 1])


def test_training_learns_the_informative_score_and_ablating_it_costs_accuracy():
    training, validation = rated(80, seed=0), rated(30, seed=1)
    trained = fit(training, validation, CONFIG, seed=0)
    accuracy = evaluate(trained.audioscore, validation)["accuracy"]
    changes = ablation(training, validation, CONFIG, seed=0)
    assert accuracy > 0.7
    assert changes["clap"]["accuracy"] < 0.5
    assert changes["pesq"]["accuracy"] > 0.65


def test_training_keeps_the_weights_of_the_best_validation_step():
    training, validation = rated(6, seed=0), rated(30, seed=1)
    trained = fit(training, validation, CONFIG, seed=0)
    assert trained.best_step == int(np.argmin(trained.validation_loss))
    assert len(trained.validation_loss) == trained.best_step + CONFIG.patience + 1 < CONFIG.max_steps
    assert evaluate(trained.audioscore, validation)["loss"] == pytest.approx(min(trained.validation_loss), rel=1e-5)


def test_training_is_reproducible_and_owned_by_the_seed():
    training, validation = rated(10, seed=0), rated(5, seed=1)
    first, again, other = (fit(training, validation, CONFIG, seed=seed).audioscore for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.output_weight, again.output_weight)
    assert not np.array_equal(first.output_weight, other.output_weight)


def test_whole_clips_are_kept_for_validation_whatever_the_order_of_the_ratings():
    clip_id = np.repeat([f"clip{clip}" for clip in range(20)], 5)
    validation = split_clips(clip_id, share=0.25, seed=0)
    assert validation.reshape(20, 5).all(axis=1).sum() == 5
    assert validation.sum() == 25
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(split_clips(clip_id[order], share=0.25, seed=0), validation[order])
    assert not np.array_equal(split_clips(clip_id, share=0.25, seed=1), validation)


def test_one_rated_clip_is_not_enough():
    with pytest.raises(UserError, match="two clips"):
        split_clips(np.array(["a", "a"]), share=0.5, seed=0)


def test_a_saved_classifier_comes_back_and_replaces_the_one_before(tmp_path):
    scores = np.random.default_rng(6).standard_normal((9, 5))
    for seed in (0, 1):
        classifier(seed=seed).save(str(tmp_path / "model"), {"metrics.json": b"{}"})
        loaded = AudioScore.load(str(tmp_path / "model"))
        np.testing.assert_array_equal(loaded.probabilities(scores), classifier(seed=seed).probabilities(scores))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_classifier_with_other_labels_is_refused(tmp_path):
    classifier().save(str(tmp_path / "model"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["labels"].reverse()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="AudioScore"):
        AudioScore.load(str(tmp_path / "model"))
