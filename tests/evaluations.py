"""Evaluation folders in the form the evaluate stage writes, of systems whose numbers a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.schema import TableSchema, TensorType, tensor_field
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.levels import MEASURED
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison, compare, evaluated_clips
from v2a_dpo.evaluation.systems import FEATURES, TENSORS, SystemClips

SIZE = 4
SETTINGS = BootstrapSettings(resamples=200, fd_resamples=200, confidence=0.95, seed=1)


def made_system(clip_ids: list[str], *, seed: int, gain: float, spread: float) -> SystemClips:
    """A system that is the real audio of `clip_ids` and noise `spread`; its ImageBind cosines are higher by `gain`."""
    reference, noise = np.random.default_rng(7), np.random.default_rng(seed)
    count = len(clip_ids)
    real = {name: reference.normal(size=(count, SIZE)) for name in TENSORS}
    columns = {
        name: (value + spread * noise.normal(size=value.shape)).astype(np.float32) for name, value in real.items()
    }
    scores = np.random.default_rng(8)
    columns["imagebind"] = 0.2 + 0.02 * scores.normal(size=count) + gain
    columns["desync"] = np.abs(0.3 + 0.05 * scores.normal(size=count))
    columns["clap"] = 0.3 + 0.05 * scores.normal(size=count)
    columns["quality"] = np.full(count, np.nan)
    return SystemClips(clip_ids, columns)


def write_evaluation(
    folder: Path,
    *,
    gain: float = 0.05,
    spread: float = 0.2,
    clips: int = 64,
    first_clip: int = 0,
    guidance: float = 4.5,
    scorers: str = "f" * 32,
    failed: Sequence[str] = (),
    settings: BootstrapSettings = SETTINGS,
) -> Comparison:
    """Writes an evaluation whose aligned model has IB-scores higher by 100 x `gain` and features with noise `spread`.

    Base and real audio are always the same for the same clips. On the further clips `failed` the aligned model alone
    made no usable sound.
    """
    clip_ids = [f"clip-{number:03d}" for number in range(first_clip, first_clip + clips)]
    tried = [*clip_ids, *failed]
    real = made_system(tried, seed=1, gain=0.0, spread=0.0).select(clip_ids)
    systems = {
        "base": made_system(tried, seed=2, gain=0.0, spread=0.2).select(clip_ids),
        "aligned": made_system(tried, seed=2, gain=gain, spread=spread).select(clip_ids),
    }
    evaluated = {name: evaluated_clips(real, system, clip_ids) for name, system in systems.items()}
    comparison = compare(evaluated, settings, reference="base", failed={"base": (), "aligned": failed})
    schema = TableSchema(
        FEATURES,
        2,
        pa.schema(
            [
                pa.field("clip_id", pa.string(), nullable=False),
                *(tensor_field(name, TensorType("float32", (SIZE,))) for name in TENSORS),
                *(pa.field(name, pa.float32()) for name in ("quality", *MEASURED)),
            ]
        ),
    )
    for name, system in {"real": real, **systems}.items():
        rows = [
            {
                "clip_id": clip_id,
                **{tensor: system.columns[tensor][row].tobytes() for tensor in TENSORS},
                "quality": None,
                "rms": 0.1,
                "lufs": -20.0,
                "clipped_share": 0.0,
            }
            for row, clip_id in enumerate(clip_ids)
        ]
        _build(folder / "features" / name, schema, rows)
    EvaluationFolder(str(folder)).write_per_clip(evaluated, clips="")
    summary = {
        "profile": "tiny",
        "duration_s": 8.0,
        "sampling": {
            system: {"seed": 0, "steps": 25, "guidance_scale": guidance, "use_text": True, "sample_rate": 16_000}
            for system in systems
        },
        "differences": {},
        "failed": {"base": [], "aligned": list(failed)},
        "rater": None,
        "test_set": fingerprint(sorted({*clip_ids, *failed})),
        "scorers_fingerprint": scorers,
    }
    EvaluationFolder(str(folder)).write(comparison, summary, tables="| Metric | Base |\n")
    return comparison


def _build(folder: Path, schema: TableSchema, rows: list[dict[str, object]]) -> None:
    tasks = [ShardTask(rows, [fingerprint(len(rows), str(rows[0]))])]
    build_dataset(str(folder), schema, parameters={}, inputs={}, tasks=tasks, code=NO_CODE, make=ShardContent)
