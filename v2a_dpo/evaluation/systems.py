"""One system's numbers, one row per clip, and which clips of several systems are paired by their ids."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import SCORES, tensor_column
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.levels import MEASURED

FEATURES = "features"
TAGGERS = ("panns", "passt")
#: Tensor columns of a features folder.
TENSORS = tuple(f"{tagger}_{output}" for tagger in TAGGERS for output in ("embedding", "logits"))
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

    def join(self, other: SystemClips) -> SystemClips:
        """The clips both have, with the columns of both."""
        held = set(other.clip_ids)
        clip_ids = [clip_id for clip_id in self.clip_ids if clip_id in held]
        return SystemClips(clip_ids, {**self.select(clip_ids).columns, **other.select(clip_ids).columns})

    def save(self, path: Path) -> None:
        """Writes everything to the safetensors file `path`, so that a later model can be compared clip by clip."""
        contiguous = {name: np.ascontiguousarray(column) for name, column in self.columns.items()}
        save_file(contiguous, path, metadata={"clip_ids": json.dumps(self.clip_ids, allow_nan=False)})

    @staticmethod
    def load(path: Path) -> SystemClips:
        """What `save` wrote to `path`; raises UserError for anything else."""
        try:
            with safe_open(path, framework="numpy") as file:
                columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                return SystemClips(json.loads(file.metadata()["clip_ids"]), columns)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"These are no evaluated clips: {error!r}.", where=str(path), remedy="Register the model again."
            ) from error


def load_features(folder: str) -> SystemClips:
    """The taggers' outputs and levels in a features folder, and the quality where a rater gave one; NaN is missing."""
    numbers = ("quality", *MEASURED)
    table = Dataset.open(folder, FEATURES).table(["clip_id", *TENSORS, *numbers])
    columns: dict[str, NDArray[np.floating]] = {name: tensor_column(table, name) for name in TENSORS}
    columns |= {name: float_column(table, name) for name in numbers}
    return SystemClips(_unique_ids(table, folder), columns)


def load_scores(folder: str, names: Sequence[str] = AVERAGED_SCORES) -> SystemClips:
    """The scores `names` of each clip's first candidate (sample 0) in a scores folder; a missing score is NaN."""
    table = Dataset.open(folder, SCORES).table(["clip_id", "sample", *names])
    table = table.filter(pc.equal(table.column("sample"), 0))
    return SystemClips(_unique_ids(table, folder), {name: float_column(table, name) for name in names})


def clips_with_features(folder: str) -> frozenset[str]:
    """The clips in a features folder: those with usable sound."""
    return frozenset(Dataset.open(folder, FEATURES).table(["clip_id"]).column("clip_id").to_pylist())


def float_column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """The numbers `[N]` of a column in double precision; null becomes NaN."""
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)


def _unique_ids(table: pa.Table, folder: str) -> list[str]:
    clip_ids: list[str] = table.column("clip_id").to_pylist()
    if len(set(clip_ids)) < len(clip_ids):
        raise UserError(
            "A clip occurs more than once.", where=folder, remedy="Delete the folder and run the stage again."
        )
    return clip_ids


@dataclass(frozen=True)
class Pairing:
    """The paired clips in the order of the clips table, and for each source how many expected clips it lacks."""

    clip_ids: list[str]
    expected: int
    missing: dict[str, int]


def pair_clips(expected: Sequence[str], sources: Mapping[str, Collection[str]], *, min_share: float) -> Pairing:
    """The clips of `expected` that all `sources` (name -> clip ids) have.

    Raises UserError when fewer than two clips or less than `min_share` of the expected ones are left, naming what each
    source lacks. No id is changed on the way: published code cleans names by their length and silently loses some.
    """
    held = {name: frozenset(clip_ids) for name, clip_ids in sources.items()}
    paired = [clip_id for clip_id in expected if all(clip_id in clip_ids for clip_ids in held.values())]
    missing = {name: sum(clip_id not in clip_ids for clip_id in expected) for name, clip_ids in held.items()}
    if len(paired) < 2 or len(paired) < min_share * len(expected):
        counts = ", ".join(f"{name} {count}" for name, count in missing.items())
        raise UserError(
            f"Only {len(paired)} of {len(expected)} clips can be evaluated; missing are: {counts}.",
            where="evaluation's pairing by clip_id",
            remedy="See the folders' _quarantine.parquet for the reasons, or lower evaluate.min_paired.",
        )
    return Pairing(paired, len(expected), missing)


def failed_clips(tried: Sequence[str], audible: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """System -> the clips of `tried` on which it made no usable sound, although another one of `audible` did."""
    by_system = {name: frozenset(clip_ids) for name, clip_ids in audible.items()}
    by_any = frozenset[str]().union(*by_system.values())
    return {
        name: [clip_id for clip_id in tried if clip_id in by_any and clip_id not in clip_ids]
        for name, clip_ids in by_system.items()
    }
