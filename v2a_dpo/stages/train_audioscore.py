"""Stage: the preference classifier from rated candidates (paper 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import json_text
from v2a_dpo.artifacts.schema import LABELS, RATINGS, SCORE_NAMES, SCORES
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import METRICS_FILE, SCORERS, scorers_of
from v2a_dpo.preference.training import ablation, evaluate, fit, rated_scores, split_clips
from v2a_dpo.progress import Progress, silent


@dataclass(frozen=True)
class AudioScoreSummary:
    """The main numbers of the stage; `metrics.json` holds all."""

    ratings: int
    accuracy: float
    majority_accuracy: float
    best_step: int

    def __str__(self) -> str:
        weak = "; mining refuses one that is no better than that" if self.accuracy <= self.majority_accuracy else ""
        return (
            f"AudioScore from {self.ratings} ratings: validation accuracy {self.accuracy:.3f} "
            f"(always the commonest label: {self.majority_accuracy:.3f}), best after step {self.best_step}{weak}"
        )


def train_audioscore(
    params: Params, *, scores: str, ratings: str, output: str, progress: Progress = silent
) -> AudioScoreSummary:
    """Trains AudioScore on the `ratings` of the candidates in `scores` and writes model and measures to `output`."""
    score_set, rating_set = Dataset.open(scores, SCORES), Dataset.open(ratings, RATINGS)
    rating_table = rating_set.table()
    table = rating_table.join(score_set.table([*SCORES.key, *SCORE_NAMES]), ["clip_id", "sample"], join_type="inner")
    table = table.sort_by([(name, "ascending") for name in RATINGS.key])
    if not table.num_rows:
        raise UserError("No rated candidate has scores.", where=ratings, remedy="Score the candidates that were rated.")
    rated = rated_scores(table, where=ratings)
    config = params.audioscore
    is_validation = split_clips(rated.clip_id, share=config.validation_share, seed=params.seed)
    training, validation = rated.rows(~is_validation), rated.rows(is_validation)
    progress("Training AudioScore", 0, 2)
    trained = fit(training, validation, config, seed=params.seed)
    progress("Training AudioScore", 1, 2)
    measures = evaluate(trained.audioscore, validation)
    majority = np.bincount(training.label, minlength=len(LABELS)).argmax()
    metrics = {
        "labels": LABELS,
        "scores": SCORE_NAMES,
        "inputs": {
            "scores": score_set.fingerprint,
            "ratings": rating_set.fingerprint,
            SCORERS: scorers_of(score_set),
        },
        "sources": {item["values"]: item["counts"] for item in pc.value_counts(table["source"]).to_pylist()},
        "ratings_without_scores": rating_table.num_rows - table.num_rows,
        "clips": {
            part: len(np.unique(rows.clip_id)) for part, rows in (("training", training), ("validation", validation))
        },
        "training": evaluate(trained.audioscore, training),
        "validation": {**measures, "majority_accuracy": float((validation.label == majority).mean())},
        "ablation": {
            "method": "retrained without the score",
            **ablation(training, validation, config, seed=params.seed),
        },
        "history": {
            "training_loss": trained.training_loss,
            "validation_loss": trained.validation_loss,
            "best_step": trained.best_step,
        },
    }
    trained.audioscore.save(output, {METRICS_FILE: json_text(metrics).encode()})
    progress("Training AudioScore", 2, 2)
    return AudioScoreSummary(
        len(rated.label), measures["accuracy"], metrics["validation"]["majority_accuracy"], trained.best_step
    )
