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

import pyarrow as pa

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.evaluation.per_clip import PER_CLIP_SCHEMA, per_clip_rows

#: The guidance curve in the guidance stage's folder.
CURVE = "guidance-curve.json"


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
        """The features of one system, or of the real audio."""
        return self.path("features", name)

    def text(self, name: str) -> str:
        """The content of the file `name`."""
        return read_bytes(self.path(name)).decode()

    def texts(self) -> dict[str, str]:
        """The content of every file that the folder has, by name."""
        names = (self.METRICS, self.SUMMARY, self.TABLE)
        return {name: self.text(name) for name in names if exists(self.path(name))}

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        content: dict[str, Any] = read_json(self.path(self.METRICS))
        return content

    def comparison(self) -> Comparison:
        """The comparison; raises UserError when an earlier release wrote it."""
        return Comparison.from_dict(self.metrics())

    def summary(self) -> dict[str, Any]:
        """The settings of the evaluation."""
        content: dict[str, Any] = read_json(self.path(self.SUMMARY))
        return content

    def per_clip(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The numbers per clip and system, all columns of `PER_CLIP_SCHEMA` or those named."""
        return Dataset.open(self.path("per-clip"), PER_CLIP_SCHEMA).table(columns)

    def write_comparison(self, comparison: Comparison) -> None:
        """Writes `metrics.json`."""
        write_json(self.path(self.METRICS), comparison.to_dict())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`."""
        write_json(self.path(self.SUMMARY), summary)

    def write_tables(self, markdown: str) -> None:
        """Writes `table.md`."""
        write_atomically(self.path(self.TABLE), markdown.encode())

    def write_per_clip(self, rows: Sequence[Mapping[str, Any]], *, clips: str, keep: bool = True) -> None:
        """Writes the numbers per clip; `clips` is the fingerprint of the clips, `keep` as in `build_dataset`."""
        build_dataset(
            self.path("per-clip"),
            PER_CLIP_SCHEMA,
            parameters=[],
            inputs={"clips": clips},
            tasks=[ShardTask(None, [fingerprint(rows)])],
            make=lambda _: ShardContent(rows),
            code=code_of(per_clip_rows),
            keep=keep,
        )


def read_curve(folder: str) -> list[dict[str, Any]]:
    """The guidance curve in the folder that the guidance stage wrote: one flat record per scale and system."""
    content: list[dict[str, Any]] = read_json(join(folder, CURVE))
    return content


def write_curve(folder: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Writes the guidance curve to `folder` and returns its path or URI."""
    write_json(join(folder, CURVE), records)
    return join(folder, CURVE)
