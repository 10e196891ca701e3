"""One system's numbers, one row per clip: the taggers' outputs on its audio, its scores, and its rated quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import SCORES, tensor_column
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.features import FEATURES, TENSORS
from v2a_dpo.evaluation.levels import MEASURED

#: The scores of a candidate that a metric averages.
AVERAGED_SCORES = ("imagebind", "clap", "desync")


@dataclass(frozen=True)
class SystemClips:
    """Named columns `[N, ...]` of one system, or of the real audio; row n belongs to `clip_ids[n]`."""

    clip_ids: list[str]
    columns: Mapping[str, NDArray[np.floating]]

    def select(self, clip_ids: Sequence[str]) -> SystemClips:
        """The rows of `clip_ids`, in this order."""
        row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        rows = np.array([row_of[clip_id] for clip_id in clip_ids], dtype=np.int64)
        return SystemClips(list(clip_ids), {name: column[rows] for name, column in self.columns.items()})


def load_features(folder: str) -> SystemClips:
    """The taggers' outputs and levels in a features folder, and the quality where somebody rated it; NaN is missing."""
    numbers = ("quality", *MEASURED)
    table = Dataset.open(folder, FEATURES).table(["clip_id", *TENSORS, *numbers])
    columns: dict[str, NDArray[np.floating]] = {name: tensor_column(table, name) for name in TENSORS}
    columns |= {name: _floats(table, name) for name in numbers}
    return SystemClips(_unique_ids(table, folder), columns)


def load_scores(folder: str) -> SystemClips:
    """The scores of each clip's first candidate (sample 0) in a scores folder; a missing score is NaN."""
    table = Dataset.open(folder, SCORES).table(["clip_id", "sample", *AVERAGED_SCORES])
    table = table.filter(pa.compute.equal(table.column("sample"), 0))
    return SystemClips(_unique_ids(table, folder), {name: _floats(table, name) for name in AVERAGED_SCORES})


def check_scores(
    scores: Dataset, *, candidates: Dataset, clips: Dataset, scorers: str, scorers_fingerprint: str
) -> None:
    """Raises UserError unless `scores` were made of these candidates and clips by the scorers in the folder
    `scorers`."""
    wanted = {
        "candidates": (candidates.fingerprint, candidates.folder),
        "clips": (clips.fingerprint, clips.folder),
        "scorers": (scorers_fingerprint, scorers),
    }
    for name, (expected, folder) in wanted.items():
        found = scores.manifest.inputs.get(name, "not recorded")
        if found != expected:
            raise UserError(
                f"These scores were not made with the {name} that were given: {found} in their manifest, {expected} in "
                f"{folder}.",
                where=scores.folder,
                remedy="Give the folders that belong together, or run `v2a-dpo score` for these candidates.",
            )


def clips_with_features(folder: str) -> frozenset[str]:
    """The clips in a features folder: those with usable sound."""
    return frozenset(Dataset.open(folder, FEATURES).table(["clip_id"]).column("clip_id").to_pylist())


def join_columns(first: SystemClips, second: SystemClips) -> SystemClips:
    """The clips both have, with the columns of both."""
    held = set(second.clip_ids)
    clip_ids = [clip_id for clip_id in first.clip_ids if clip_id in held]
    columns = {**first.select(clip_ids).columns, **second.select(clip_ids).columns}
    return SystemClips(clip_ids, columns)


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    values = table.column(name).cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


def _unique_ids(table: pa.Table, folder: str) -> list[str]:
    clip_ids: list[str] = table.column("clip_id").to_pylist()
    if len(set(clip_ids)) < len(clip_ids):
        raise UserError(
            "A clip occurs more than once.", where=folder, remedy="Delete the folder and run the stage again."
        )
    return clip_ids
