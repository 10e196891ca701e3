"""The per-clip numbers behind the metrics, as a table: for looking at single clips and for other statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from v2a_dpo.artifacts.schema import TableSchema
from v2a_dpo.evaluation.metrics import per_clip_values
from v2a_dpo.evaluation.systems import SystemClips

_VALUES = ("kl_panns", "kl_passt", "inception_contribution", "ib_score", "desync_s", "clap_score", "rater_quality")

PER_CLIP_SCHEMA = TableSchema(
    "evaluated_clips",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("system", pa.string(), nullable=False),
            *(pa.field(name, pa.float64()) for name in _VALUES),
        ]
    ),
    key=("clip_id", "system"),
)


def per_clip_rows(reference: SystemClips, systems: Mapping[str, SystemClips]) -> list[dict[str, Any]]:
    """The rows of PER_CLIP_SCHEMA, clip by clip; a number that a clip lacks is null. All rows must be paired."""
    values = {name: per_clip_values(reference, system) for name, system in systems.items()}
    return [
        {"clip_id": clip_id, "system": name, **{key: _or_null(values[name][key][row]) for key in _VALUES}}
        for row, clip_id in enumerate(reference.clip_ids)
        for name in systems
    ]


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
