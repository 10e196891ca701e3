"""Whether an AudioScore may judge a set of scores: made of the same scorers, and better than a constant answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import join, read_bytes
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import METRICS_FILE

#: What a set of scores calls the fingerprint of its scorers among its inputs, and AudioScore's measures likewise.
SCORERS = "scorers"


def scorers_of(scores: Dataset) -> str:
    """The fingerprint of the scorers that made `scores`; raises UserError when their manifest does not tell."""
    try:
        return scores.manifest.inputs[SCORERS]
    except KeyError as error:
        raise UserError(
            "The manifest of these scores does not tell which scorers made them.",
            where=scores.folder,
            remedy="Make them by `v2a-dpo score`.",
        ) from error


def check_audioscore(folder: str, scores: Sequence[Dataset], *, allow_weak: bool) -> None:
    """Raises UserError when the AudioScore in `folder` learned from other scorers' scores, or is weak and that is not
    allowed.

    It is weak when its accuracy on validation clips is no better than always answering the commonest label.
    """
    metrics = _metrics(folder)
    for part in scores:
        if scorers_of(part) != metrics["inputs"][SCORERS]:
            raise UserError(
                "This AudioScore was trained on the scores of other scorers than these.",
                where=f"{folder}, {part.folder}",
                remedy="Score both sets of candidates by the same scorers, and train AudioScore on such scores.",
            )
    validation = metrics["validation"]
    if validation["accuracy"] <= validation["majority_accuracy"] and not allow_weak:
        raise UserError(
            f"This AudioScore is right on {validation['accuracy']:.3f} of {validation['ratings']} validation "
            "ratings, and always "
            f"answering the commonest label is on {validation['majority_accuracy']:.3f}: it has learned "
            "nothing to mine by.",
            where=join(folder, METRICS_FILE),
            remedy="Rate more clips, with Good and Bad among them; or set mine.allow_weak_audioscore=true, "
            "for example where the labels are very unequal but pair_accuracy is high.",
        )


def _metrics(folder: str) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(read_bytes(join(folder, METRICS_FILE)))
        metrics["inputs"][SCORERS], metrics["validation"]["majority_accuracy"]
    except (ValueError, KeyError) as error:
        raise UserError(
            "These are no measures of an AudioScore of this version.",
            where=join(folder, METRICS_FILE),
            remedy="Train it again by `v2a-dpo train-audioscore`.",
        ) from error
    return metrics
