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


@dataclass(frozen=True)
class TableSchema:
    """A named, versioned Arrow schema; `key` are the columns that identify a row."""

    name: str
    version: int
    arrow: pa.Schema
    key: tuple[str, ...] = ("clip_id",)


@dataclass(frozen=True)
class TensorType:
    """What a tensor column holds: a NumPy `dtype` name and one row's `shape`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def tensor_field(name: str, tensor: TensorType) -> pa.Field:
    """A column of fixed-shape tensors; dtype and shape stand in the field's metadata, so that any reader can decode
    it."""
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


_AUDIO = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

#: One silent video segment. `probe` tells whether the file behind it changed.
CLIPS = TableSchema(
    "clips",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("video", pa.string(), nullable=False),
            pa.field("start_s", pa.float64(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("prompt", pa.string()),
            pa.field("label", pa.string()),
            pa.field("split", pa.string(), nullable=False),
            pa.field("frame_rate", pa.float32(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("has_audio", pa.bool_(), nullable=False),
            pa.field("has_speech", pa.bool_(), nullable=False),
            pa.field("probe", pa.string(), nullable=False),
        ]
    ),
)

#: The five raw scores of a candidate; a missing one is null and `missing` (JSON, score -> reason) says why.
SCORES = TableSchema(
    "scores",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("sample", pa.int16(), nullable=False),
            *(pa.field(score, pa.float32()) for score in SCORE_NAMES),
            pa.field("missing", pa.string()),
        ]
    ),
    key=("clip_id", "sample"),
)

#: Good / Medium / Bad for a candidate; `source` is `human` or `simulated`.
RATINGS = TableSchema(
    "ratings",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("sample", pa.int16(), nullable=False),
            pa.field("rating", pa.string(), nullable=False),
            pa.field("rater", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
        ]
    ),
    key=("clip_id", "sample", "rater"),
)

#: Winner and loser candidates of one clip; `source` is `audioscore`, `human` or `simulated`, `phase` is `easy` or
#: `hard`.
PAIRS = TableSchema(
    "pairs",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("winner", pa.int16(), nullable=False),
            pa.field("loser", pa.int16(), nullable=False),
            pa.field("winner_good", pa.float32()),
            pa.field("winner_bad", pa.float32()),
            pa.field("loser_good", pa.float32()),
            pa.field("loser_bad", pa.float32()),
            pa.field("complexity", pa.float32(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("phase", pa.string(), nullable=False),
        ]
    ),
)

#: Rows that failed, with the class and the text of the error.
QUARANTINE = TableSchema(
    "quarantine",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("error", pa.string(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
        ]
    ),
)


def conditions_schema(tensors: Mapping[str, TensorType]) -> TableSchema:
    """The schema of cached raw conditions: one tensor column for each name."""
    fields = [tensor_field(name, kind) for name, kind in tensors.items()]
    return TableSchema("conditions", 1, pa.schema([pa.field("clip_id", pa.string(), nullable=False), *fields]))


def candidates_schema(latent: TensorType) -> TableSchema:
    """The schema of generated candidates: the latent `[L, C]` as sampled, and the audio as FLAC bytes."""
    return TableSchema(
        "candidates",
        2,
        pa.schema(
            [
                pa.field("clip_id", pa.string(), nullable=False),
                pa.field("sample", pa.int16(), nullable=False),
                pa.field("seed", pa.int64(), nullable=False),
                pa.field("steps", pa.int16(), nullable=False),
                pa.field("guidance_scale", pa.float32(), nullable=False),
                pa.field("use_text", pa.bool_(), nullable=False),
                pa.field("sample_rate", pa.int32(), nullable=False),
                tensor_field("latent", latent),
                pa.field("audio", _AUDIO, nullable=False),
            ]
        ),
        key=("clip_id", "sample"),
    )
