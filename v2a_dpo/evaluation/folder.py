"""The evaluation folder: the names of its files, and their readers and writers.

| name | content |
| --- | --- |
| `metrics.json` | the metrics with intervals and paired differences, a `Comparison` |
| `summary.json` | the settings of the evaluation: sampling, missing and failed clips, test set |
| `table.md` | the result tables in Markdown |
| `per-clip/` | the numbers per clip and system, a data set of `PER_CLIP_SCHEMA` |
| `features/<name>/` | the taggers' outputs on the audio of one source, a data set |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.artifacts.schema import TableSchema
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.evaluation.metrics import PER_CLIP_VALUES, Comparison
from v2a_dpo.evaluation.systems import SystemClips, float_column, load_features

#: The guidance curve in the guidance stage's folder.
CURVE = "guidance-curve.json"
#: The features of the clips' own audio, beside those of the systems.
REAL = "real"

PER_CLIP_SCHEMA = TableSchema(
    "evaluated_clips",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("system", pa.string(), nullable=False),
            *(pa.field(name, pa.float64()) for name in PER_CLIP_VALUES),
        ]
    ),
    key=("clip_id", "system"),
)


@dataclass(frozen=True)
class EvaluationFolder:
    """The evaluation at `location`, a path or URI. Readers raise UserError where a file is missing."""

    METRICS: ClassVar[str] = "metrics.json"
    SUMMARY: ClassVar[str] = "summary.json"
    TABLE: ClassVar[str] = "table.md"

    location: str

    def path(self, *parts: str) -> str:
        """A place inside the folder."""
        return join(self.location, *parts)

    def features(self, name: str) -> str:
        """The features of one system, or of the real audio (REAL)."""
        return self.path("features", name)

    def text(self, name: str) -> str:
        """The content of the file `name`."""
        return read_bytes(self.path(name)).decode()

    def texts(self) -> dict[str, str]:
        """The content of every file that the folder has, by name."""
        names = (self.METRICS, self.SUMMARY, self.TABLE)
        return {name: self.text(name) for name in names if exists(self.path(name))}

    def comparison(self) -> Comparison:
        """The comparison; raises UserError when an earlier release wrote it."""
        return Comparison.from_dict(read_json(self.path(self.METRICS)))

    def summary(self) -> dict[str, Any]:
        """The settings of the evaluation."""
        content: dict[str, Any] = read_json(self.path(self.SUMMARY))
        return content

    def per_clip(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The numbers per clip and system, all columns of `PER_CLIP_SCHEMA` or those named."""
        return Dataset.open(self.path("per-clip"), PER_CLIP_SCHEMA).table(columns)

    def evaluated(self, system: str) -> SystemClips:
        """The clips of one system as `evaluated_clips` made them."""
        table = self.per_clip()
        table = table.filter(pc.equal(table.column("system"), system))
        clip_ids: list[str] = table.column("clip_id").to_pylist()
        features = load_features(self.features(system)).select(clip_ids).columns
        columns = {
            **{name: float_column(table, name) for name in PER_CLIP_VALUES},
            **{name: features[name] for name in ("passt_embedding", "panns_logits")},
            "real_passt_embedding": load_features(self.features(REAL)).select(clip_ids).columns["passt_embedding"],
        }
        return SystemClips(clip_ids, columns)

    def write(self, comparison: Comparison, summary: Mapping[str, Any], *, tables: str) -> None:
        """Writes `metrics.json` last, `summary.json` and, in Markdown, `table.md`."""
        write_json(self.path(self.SUMMARY), summary)
        write_atomically(self.path(self.TABLE), tables.encode())
        write_json(self.path(self.METRICS), comparison.to_dict())

    def write_per_clip(self, systems: Mapping[str, SystemClips], *, clips: str, keep: bool = True) -> None:
        """Writes the numbers per clip of evaluated `systems`, clip by clip; a number that a clip lacks is null.

        `clips` is the fingerprint of the clips, `keep` as in `build_dataset`.
        """
        rows = _per_clip_rows(systems)
        build_dataset(
            self.path("per-clip"),
            PER_CLIP_SCHEMA,
            parameters=[],
            inputs={"clips": clips},
            tasks=[ShardTask(None, [fingerprint(rows)])],
            make=lambda _: ShardContent(rows),
            code=code_of(_per_clip_rows),
            keep=keep,
        )


def _per_clip_rows(systems: Mapping[str, SystemClips]) -> list[dict[str, Any]]:
    (clip_ids,) = {tuple(system.clip_ids) for system in systems.values()}
    return [
        {
            "clip_id": clip_id,
            "system": name,
            **{key: _or_null(system.columns[key][row]) for key in PER_CLIP_VALUES},
        }
        for row, clip_id in enumerate(clip_ids)
        for name, system in systems.items()
    ]


def _or_null(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_curve(folder: str) -> list[dict[str, Any]]:
    """The guidance curve in the folder that the guidance stage wrote: one flat record per scale and system."""
    content: list[dict[str, Any]] = read_json(join(folder, CURVE))
    return content


def write_curve(folder: str, comparisons: Mapping[float, Comparison]) -> str:
    """Writes the comparisons at each guidance scale as the curve in `folder`; returns its path or URI.

    A record has each metric's value, `_low` and `_high`.
    """
    records = []
    for scale, comparison in comparisons.items():
        for name, intervals in comparison.systems.items():
            record: dict[str, Any] = {"guidance_scale": scale, "system": name, "clips": comparison.clips}
            for key, interval in intervals.items():
                record |= {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}
            records.append(record)
    write_json(join(folder, CURVE), records)
    return join(folder, CURVE)
