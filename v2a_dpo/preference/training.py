"""Training of AudioScore on ratings, and its validation. Letters: R ratings, S scores, K labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn import functional as F

from v2a_dpo.artifacts.schema import LABELS, SCORE_NAMES
from v2a_dpo.config import AudioScoreConfig
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import BAD, GOOD, AudioScore, network_inputs, score_matrix
from v2a_dpo.preference.classification import (
    calibration,
    confusion_matrix,
    cross_entropy,
    pair_accuracy,
    rank_correlation,
)
from v2a_dpo.randomness import row_generator, row_seed, uniform


@dataclass(frozen=True)
class RatedScores:
    """Ratings with the raw scores of the candidates: `label` indexes LABELS, a missing score is NaN."""

    clip_id: np.ndarray
    scores: np.ndarray
    label: np.ndarray

    def rows(self, selected_R: np.ndarray) -> RatedScores:
        """The ratings that `selected_R` selects."""
        return RatedScores(self.clip_id[selected_R], self.scores[selected_R], self.label[selected_R])

    def without(self, score: str) -> RatedScores:
        """The same ratings with one score missing everywhere."""
        scores_RS = self.scores.copy()
        scores_RS[:, SCORE_NAMES.index(score)] = np.nan
        return RatedScores(self.clip_id, scores_RS, self.label)


def rated_scores(table: pa.Table, *, where: str) -> RatedScores:
    """The rows of RATINGS joined with SCORES as arrays; raises UserError for a label that is none of LABELS."""
    label_R = pc.index_in(table["rating"], value_set=pa.array(LABELS))
    if label_R.null_count:
        unknown = pc.unique(pc.filter(table["rating"], pc.is_null(label_R))).to_pylist()
        raise UserError(
            f"Unknown ratings: {', '.join(map(repr, unknown))}.", where=where, remedy=f"Use {', '.join(LABELS)}."
        )
    return RatedScores(
        clip_id=np.asarray(table["clip_id"].to_pylist()),
        scores=score_matrix(table),
        label=label_R.to_numpy().astype(np.int64),
    )


@dataclass(frozen=True)
class FitResult:
    """A classifier with the weights of `best_step`, and the losses after every full-batch step, in nats."""

    audioscore: AudioScore
    training_loss: list[float]
    validation_loss: list[float]
    best_step: int


def split_clips(clip_id_R: np.ndarray, *, share: float, seed: int) -> np.ndarray:
    """Which ratings are for validation, `[R]` bool: whole clips, drawn by a seeded hash of the clip id.

    At least one clip is on each side. Raises UserError with fewer than two clips.
    """
    # "held out" names a random stream: another name would be another split.
    clips = sorted(set(clip_id_R.tolist()), key=lambda clip: row_seed(seed, "audioscore", "held out", clip))
    if len(clips) < 2:
        raise UserError(
            "AudioScore needs ratings of at least two clips: one to learn from and one to stop by.",
            where="ratings",
            remedy="Rate more clips.",
        )
    count = min(max(round(share * len(clips)), 1), len(clips) - 1)
    return np.isin(clip_id_R, clips[:count])


def fit(training: RatedScores, validation: RatedScores, config: AudioScoreConfig, *, seed: int) -> FitResult:
    """AudioScore after full-batch AdamW on the cross-entropy, stopped early by the validation loss.

    The weights kept are those of the step with the least validation loss; training ends after `patience` steps without
    a better one. So metrics on the same validation clips are slightly optimistic. Raises UserError when a loss is not
    finite.
    """
    mean_S, std_S = standardisation(training.scores)
    indicators = config.missing_indicators

    def tensors(part: RatedScores) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = network_inputs(part.scores, mean_S, std_S, missing_indicators=indicators)
        return torch.from_numpy(inputs), torch.from_numpy(part.label)

    (inputs, labels), (validation_inputs, validation_labels) = tensors(training), tensors(validation)
    generator = row_generator(seed, "audioscore", "initial weights")
    weights = [
        *_linear(inputs.shape[1], config.hidden_size, generator),
        *_linear(config.hidden_size, len(LABELS), generator),
    ]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    training_loss: list[float] = []
    validation_loss: list[float] = []
    best, best_step = [weight.detach().clone() for weight in weights], 0
    for step in range(config.max_steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(_logits(weights, inputs), labels)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            training_loss.append(loss.item())
            validation_loss.append(F.cross_entropy(_logits(weights, validation_inputs), validation_labels).item())
        for part, losses in (("training", training_loss), ("validation", validation_loss)):
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"AudioScore diverged: the {part} loss is {losses[-1]} at step {step}.",
                    where="audioscore.learning_rate",
                    remedy=f"Lower it; it is {config.learning_rate:g} and the default is "
                    f"{AudioScoreConfig().learning_rate:g}.",
                )
        if validation_loss[-1] < min(validation_loss[:-1], default=float("inf")):
            best, best_step = [weight.detach().clone() for weight in weights], step
        elif step - best_step >= config.patience:
            break
    audioscore = AudioScore(mean_S, std_S, *(weight.numpy() for weight in best))
    return FitResult(audioscore, training_loss, validation_loss, best_step)


def standardisation(scores_RS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[S]` float32 over finite scores; a score that is always missing gets mean 0, and
    one without variation std 1."""
    finite_RS = np.isfinite(scores_RS)
    count_S = np.maximum(finite_RS.sum(axis=0), 1)
    mean_S = np.where(finite_RS, scores_RS, 0).sum(axis=0, dtype=np.float64) / count_S
    deviation_RS = np.where(finite_RS, scores_RS - mean_S, 0)
    std_S = np.sqrt((deviation_RS**2).sum(axis=0, dtype=np.float64) / count_S)
    return mean_S.astype(np.float32), np.where(std_S > 1e-6, std_S, 1).astype(np.float32)


def _linear(inputs: int, outputs: int, generator: np.random.Generator) -> list[torch.Tensor]:
    """Weight and bias of a linear layer, drawn uniformly within 1 / sqrt(inputs) as torch's own are."""
    bound = inputs**-0.5
    shapes = [(outputs, inputs), (outputs,)]
    return [((2 * uniform(shape, generator) - 1) * bound).requires_grad_() for shape in shapes]


def _logits(weights: list[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    hidden_weight, hidden_bias, output_weight, output_bias = weights
    return F.linear(F.linear(inputs, hidden_weight, hidden_bias).relu(), output_weight, output_bias)


def evaluate(audioscore: AudioScore, rated: RatedScores) -> dict[str, Any]:
    """Metrics of `audioscore` on `rated` as JSON values.

    Accuracy, cross-entropy, confusion (row = true label), calibration of the predicted label's confidence and of each
    label's probability, and the ranking by P(Good) - P(Bad): Spearman over all ratings, accuracy on pairs of one clip.
    """
    probabilities_RK = audioscore.probabilities(rated.scores)
    predicted_R = probabilities_RK.argmax(axis=-1)
    preference_R = probabilities_RK[:, GOOD] - probabilities_RK[:, BAD]
    quality_R = -rated.label
    return {
        "ratings": len(rated.label),
        "accuracy": float((predicted_R == rated.label).mean()),
        "loss": cross_entropy(probabilities_RK, rated.label),
        "confusion": confusion_matrix(rated.label, predicted_R, len(LABELS)).tolist(),
        "calibration": {
            "confidence": calibration(probabilities_RK.max(axis=-1), predicted_R == rated.label),
            **{name: calibration(probabilities_RK[:, k], rated.label == k) for k, name in enumerate(LABELS)},
        },
        "rank_correlation": rank_correlation(preference_R, quality_R),
        "pair_accuracy": pair_accuracy(preference_R, quality_R, rated.clip_id),
    }


def ablation(training: RatedScores, validation: RatedScores, config: AudioScoreConfig, *, seed: int) -> dict[str, Any]:
    """Validation metrics of a classifier **retrained** without one score, for each score."""
    result = {}
    for name in SCORE_NAMES:
        part = validation.without(name)
        metrics = evaluate(fit(training.without(name), part, config, seed=seed).audioscore, part)
        result[name] = {key: metrics[key] for key in ("accuracy", "loss", "rank_correlation", "pair_accuracy")}
    return result
