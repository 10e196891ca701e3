"""AudioScore: from a candidate's five scores to P(Good), P(Medium), P(Bad) (paper 2.1; the vector is Eq. 1).

Linear - ReLU - Linear - softmax over the labels. Everything here is NumPy: a million candidates take a second or two
and no torch; `training` trains it. Letters in array names: R rows, S scores, I inputs, K labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load, save

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.json_files import json_text
from v2a_dpo.artifacts.location import join, read_bytes
from v2a_dpo.artifacts.schema import LABELS, SCORE_NAMES
from v2a_dpo.errors import UserError

#: Indices of LABELS.
GOOD, MEDIUM, BAD = range(3)

#: The metrics of a classifier on training and validation ratings, beside it in its folder.
METRICS_FILE = "metrics.json"
#: The role of the scorers' fingerprint among the inputs of a set of scores and of AudioScore's metrics.
SCORERS = "scorers"

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class AudioScore:
    """The trained classifier, standardisation included.

    `mean` and `std` `[S]` are those of the training ratings; a missing score becomes 0, the mean, after
    standardisation. With `missing_indicators`, five more inputs mark missing scores (an extension of the paper's MLP).
    """

    mean: np.ndarray
    std: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray
    output_bias: np.ndarray

    @property
    def missing_indicators(self) -> bool:
        """Whether missing scores have inputs of their own."""
        return self.hidden_weight.shape[1] > len(SCORE_NAMES)

    def probabilities(self, scores_RS: np.ndarray) -> np.ndarray:
        """P(Good), P(Medium), P(Bad) `[R, 3]` float32 of raw scores in the order of SCORE_NAMES; NaN is missing."""
        result_RK = np.empty((len(scores_RS), len(LABELS)), dtype=np.float32)
        for start in range(0, len(scores_RS), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            inputs_RI = network_inputs(scores_RS[rows], self.mean, self.std, missing_indicators=self.missing_indicators)
            hidden_RH = np.maximum(inputs_RI @ self.hidden_weight.T + self.hidden_bias, 0)
            result_RK[rows] = softmax_over_labels(hidden_RH @ self.output_weight.T + self.output_bias)
        return result_RK

    def save(self, folder: str, extra: dict[str, bytes] | None = None) -> None:
        """Writes `config.json`, `model.safetensors` and the `extra` files to `folder`, all at once."""
        config = {
            "family": "audioscore",
            "scores": SCORE_NAMES,
            "labels": LABELS,
            "hidden_size": len(self.hidden_bias),
            "missing_indicators": self.missing_indicators,
        }
        files = {
            "config.json": json_text(config).encode(),
            "model.safetensors": save({item.name: getattr(self, item.name) for item in fields(self)}),
            **(extra or {}),
        }
        with new_folder(folder) as target:
            for name, content in files.items():
                (target / name).write_bytes(content)

    @staticmethod
    def load(folder: str) -> AudioScore:
        """The classifier saved in `folder`; raises UserError when there is none, or it is of another version."""
        try:
            config = json.loads(read_bytes(join(folder, "config.json")))
            tensors = load(read_bytes(join(folder, "model.safetensors")))
            if (config["family"], *config["scores"], *config["labels"]) != ("audioscore", *SCORE_NAMES, *LABELS):
                raise ValueError("family, scores or labels differ")
            return AudioScore(**tensors)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"This folder holds no AudioScore of this version: {error}.",
                where=folder,
                remedy="Train one by `v2a-dpo train-audioscore`.",
            ) from error


def network_inputs(
    scores_RS: np.ndarray, mean_S: np.ndarray, std_S: np.ndarray, *, missing_indicators: bool
) -> np.ndarray:
    """The first layer's inputs `[R, I]` float32: standardised scores, missing ones 0, and the indicators if any."""
    missing_RS = ~np.isfinite(scores_RS)
    standard_RS = np.where(missing_RS, 0, (scores_RS - mean_S) / std_S).astype(np.float32)
    return np.hstack([standard_RS, missing_RS.astype(np.float32)]) if missing_indicators else standard_RS


def softmax_over_labels(logits_RK: np.ndarray) -> np.ndarray:
    """Probabilities that sum to 1 over a candidate's labels (never over a clip's candidates), same shape."""
    exponentials_RK = np.exp(logits_RK - logits_RK.max(axis=-1, keepdims=True))
    return exponentials_RK / exponentials_RK.sum(axis=-1, keepdims=True)


def score_matrix(table: pa.Table) -> np.ndarray:
    """The five score columns of a SCORES table as `[R, 5]` float32; null becomes NaN."""
    columns = [table.column(name).to_numpy().astype(np.float32, copy=False) for name in SCORE_NAMES]
    return np.column_stack(columns)


def scorers_of(scores: Dataset) -> str:
    """The fingerprint of the scorers of `scores`; raises UserError when their manifest does not name any."""
    if SCORERS not in scores.manifest.inputs:
        what = "The manifest of these scores names no scorers."
        raise UserError(what, where=scores.folder, remedy="Make them by `v2a-dpo score`.")
    return scores.manifest.inputs[SCORERS]


def check_audioscore(folder: str, scores: Sequence[Dataset], *, allow_weak: bool) -> None:
    """Raises UserError when the AudioScore in `folder` was trained on the scores of other scorers, or is weak and that
    is not allowed.

    It is weak when its accuracy on validation clips is no better than always answering the commonest label.
    """
    file = join(folder, METRICS_FILE)
    try:
        metrics = json.loads(read_bytes(file))
        scorers, validation = metrics["inputs"][SCORERS], metrics["validation"]
        accuracy, majority, ratings = (validation[key] for key in ("accuracy", "majority_accuracy", "ratings"))
    except (ValueError, KeyError) as error:
        remedy = "Train it again by `v2a-dpo train-audioscore`."
        raise UserError("These are no metrics of an AudioScore of this version.", where=file, remedy=remedy) from error
    for part in scores:
        if scorers_of(part) != scorers:
            raise UserError(
                "This AudioScore was trained on the scores of other scorers than these.",
                where=f"{folder}, {part.folder}",
                remedy="Score both sets of candidates by the same scorers, and train AudioScore on such scores.",
            )
    if accuracy <= majority and not allow_weak:
        raise UserError(
            f"This AudioScore is right on {accuracy:.3f} of {ratings} validation ratings, and always answering the "
            f"commonest label is on {majority:.3f}: it has learned nothing to mine by.",
            where=file,
            remedy="Rate more clips, with Good and Bad among them; or set mine.allow_weak_audioscore=true, "
            "for example where the labels are very unequal but pair_accuracy is high.",
        )
