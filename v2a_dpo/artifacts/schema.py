"""Table schemas of the artifacts, and tensors as fixed-size binary columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

#: The five scores of a candidate, in the order in which AudioScore takes them.
SCORE_NAMES = ("imagebind", "clap", "desync", "inception", "pesq")
#: The ratings, from good to bad.
LABELS = ("good", "medium", "bad")
#: Where a preference comes from: the classifier, a person, or the tiny profile's rater.
AUDIOSCORE, HUMAN, SIMULATED = "audioscore", "human", "simulated"
#: The name of the tiny profile's rater wherever its ratings appear.
SIMULATED_RATER = "simulated rater"


@dataclass(frozen=True)
class TableSchema:
    """A named, versioned Arrow schema; `key` are the columns that identify a row."""

    name: str
    version: int
    arrow: pa.Schema
    key: tuple[str, ...] = ("clip_id",)


@dataclass(frozen=True)
class TensorType:
    """The type of a tensor column: a NumPy `dtype` name and one row's `shape`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def tensor_field(name: str, tensor: TensorType) -> pa.Field:
    """A column of fixed-shape tensors; dtype and shape are in its metadata, so that any reader can decode it."""
    metadata = {"dtype": tensor.dtype, "shape": json.dumps(list(tensor.shape), allow_nan=False)}
    return pa.field(name, pa.binary(tensor.num_bytes), nullable=False, metadata=metadata)


def is_tensor(field: pa.Field) -> bool:
    """Whether `tensor_field` made this column."""
    return b"shape" in (field.metadata or {})


def tensor_type(field: pa.Field) -> TensorType:
    """The tensor type that `tensor_field` wrote into `field`."""
    metadata: Mapping[bytes, bytes] = field.metadata
    return TensorType(metadata[b"dtype"].decode(), tuple(json.loads(metadata[b"shape"])))


def tensor_column(table: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
    """The tensor column `name` as an array `[rows, *shape]`.

    Where Arrow keeps the column in one piece there is no copy: do not write into the array.
    """
    kind = tensor_type(table.schema.field(name))
    column = table.column(name)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    arrays = [_chunk_tensors(chunk, kind) for chunk in chunks]
    if not arrays:
        return np.empty((0, *kind.shape), dtype=kind.dtype)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _chunk_tensors(chunk: pa.Array, kind: TensorType) -> np.ndarray:
    shape = (len(chunk), *kind.shape)
    num_values = int(np.prod(shape, dtype=np.int64))
    if num_values == 0:
        return np.empty(shape, dtype=kind.dtype)
    start = chunk.offset * kind.num_bytes
    return np.frombuffer(chunk.buffers()[1], dtype=kind.dtype, count=num_values, offset=start).reshape(shape)


def required(**columns: pa.DataType) -> list[pa.Field]:
    """Columns without nulls, name = type."""
    return [pa.field(name, kind, nullable=False) for name, kind in columns.items()]


def optional(**columns: pa.DataType) -> list[pa.Field]:
    """Columns that may hold nulls, name = type."""
    return [pa.field(name, kind) for name, kind in columns.items()]


_TEXT, _BOOL, _INT16, _INT32 = pa.string(), pa.bool_(), pa.int16(), pa.int32()
_FLOAT32, _FLOAT64 = pa.float32(), pa.float64()
_AUDIO = pa.struct({"bytes": pa.binary(), "path": _TEXT})

#: One silent video segment. `probe` changes when the file behind it does.
CLIPS = TableSchema(
    "clips",
    1,
    pa.schema(
        [
            *required(clip_id=_TEXT, video=_TEXT, start_s=_FLOAT64, duration_s=_FLOAT64),
            *optional(prompt=_TEXT, label=_TEXT),
            *required(split=_TEXT, frame_rate=_FLOAT32, width=_INT32, height=_INT32),
            *required(has_audio=_BOOL, has_speech=_BOOL, probe=_TEXT),
        ]
    ),
)

#: The five raw scores of a candidate; a missing one is null, with its reason in `missing` (JSON, score -> reason).
SCORES = TableSchema(
    "scores",
    1,
    pa.schema(
        [
            *required(clip_id=_TEXT, sample=_INT16),
            *optional(**dict.fromkeys(SCORE_NAMES, _FLOAT32), missing=_TEXT),
        ]
    ),
    key=("clip_id", "sample"),
)

#: Good / Medium / Bad for a candidate; `source` is `human` or `simulated`.
RATINGS = TableSchema(
    "ratings",
    1,
    pa.schema(required(clip_id=_TEXT, sample=_INT16, rating=_TEXT, rater=_TEXT, source=_TEXT)),
    key=("clip_id", "sample", "rater"),
)

#: Winner and loser candidates of one clip; `source` is `audioscore`, `human` or `simulated`, `phase` is `easy` or
#: `hard`.
PAIRS = TableSchema(
    "pairs",
    1,
    pa.schema(
        [
            *required(clip_id=_TEXT, winner=_INT16, loser=_INT16),
            *optional(winner_good=_FLOAT32, winner_bad=_FLOAT32, loser_good=_FLOAT32, loser_bad=_FLOAT32),
            *required(complexity=_FLOAT32, source=_TEXT, phase=_TEXT),
        ]
    ),
)

#: Rows that failed, with the class and the text of the error.
QUARANTINE = TableSchema("quarantine", 1, pa.schema(required(clip_id=_TEXT, error=_TEXT, message=_TEXT)))


def conditions_schema(tensors: Mapping[str, TensorType]) -> TableSchema:
    """The schema of cached raw conditions: one tensor column for each name."""
    fields = [tensor_field(name, kind) for name, kind in tensors.items()]
    return TableSchema("conditions", 1, pa.schema([*required(clip_id=_TEXT), *fields]))


def candidates_schema(latent: TensorType) -> TableSchema:
    """The schema of generated candidates: the latent `[L, C]` as sampled, and the audio as FLAC bytes."""
    return TableSchema(
        "candidates",
        2,
        pa.schema(
            [
                *required(clip_id=_TEXT, sample=_INT16, seed=pa.int64(), steps=_INT16, guidance_scale=_FLOAT32),
                *required(use_text=_BOOL, sample_rate=_INT32),
                tensor_field("latent", latent),
                *required(audio=_AUDIO),
            ]
        ),
        key=("clip_id", "sample"),
    )
