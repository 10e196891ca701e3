"""A small but real alignment problem: the tiny generator, and pairs whose winners and losers differ by a pattern."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import PAIRS, TableSchema, TensorType, candidates_schema, conditions_schema
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import NETWORK_CONFIG, TinyEncoders, build

#: Seconds of a clip, and what the tiny generator makes of so short a one.
DURATION_S = 0.25
LATENT = (8, NETWORK_CONFIG.latent_channels)
CONDITIONS = {
    "clip": TensorType("float32", (2, NETWORK_CONFIG.clip_dim)),
    "sync": TensorType("float32", (8, NETWORK_CONFIG.sync_dim)),
    "text": TensorType("float32", (NETWORK_CONFIG.text_length, NETWORK_CONFIG.text_dim)),
}
CLIPS, SAMPLES = 24, 3


@dataclass(frozen=True)
class Problem:
    """The folders of one alignment, as the stage takes them."""

    root: Path

    def arguments(self, run: str = "run") -> dict[str, object]:
        return {
            "pairs": str(self.root / "pairs"),
            "candidates": [str(self.root / "candidates-0"), str(self.root / "candidates-1")],
            "conditions": [str(self.root / "conditions-0"), str(self.root / "conditions-1")],
            "generator": str(self.root / "generator"),
            "output": str(self.root / run / "aligned"),
            "log": str(self.root / run / "alignment"),
        }


def small_model(seed: int = 0) -> VideoToAudioModel:
    """The tiny generator with random weights everywhere: its own start predicts zero whatever it sees."""
    model = build(TinyEncoders(), PatchCodec(), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    model.network.requires_grad_(False)
    return model


def write(folder: Path, schema, *shards, made_of: dict[str, Path] | None = None) -> None:
    """Writes a data set whose manifest names the data sets it was made of, by role."""
    tasks = [ShardTask(rows, [repr(rows)]) for rows in shards]
    inputs = {role: Dataset.open(str(origin)).fingerprint for role, origin in (made_of or {}).items()}
    build_dataset(str(folder), schema, parameters={}, inputs=inputs, tasks=tasks, code=NO_CODE, make=ShardContent)


def schema_of(source: Dataset) -> TableSchema:
    """The schema that a data set was written with."""
    return TableSchema(source.manifest.schema_name, source.manifest.schema_version, source.table().schema)


@pytest.fixture(scope="session")
def problem(tmp_path_factory) -> Problem:
    """24 clips in two folders of candidates and conditions, two shards each; winners are sample 2, losers sample 0."""
    root = tmp_path_factory.mktemp("alignment")
    random = np.random.default_rng(0)
    pattern = random.standard_normal(LATENT)
    clips = [f"clip{clip:02d}" for clip in range(CLIPS)]

    def candidates(clip):
        for sample in range(SAMPLES):
            latent = (sample - 1) * pattern + 0.3 * random.standard_normal(LATENT)
            yield {
                "clip_id": clip, "sample": sample, "seed": sample, "steps": 12, "guidance_scale": 2.0, "use_text": True,
                "sample_rate": 16000, "latent": latent.astype(np.float16).tobytes(),
                "audio": {"bytes": b"", "path": None},
            }  # fmt: skip

    def conditions(clip):
        tensors = {name: random.standard_normal(kind.shape).astype(kind.dtype) for name, kind in CONDITIONS.items()}
        return {"clip_id": clip, **{name: tensor.tobytes() for name, tensor in tensors.items()}}

    for folder, part in enumerate((clips[:16], clips[16:])):
        halves = part[: len(part) // 2], part[len(part) // 2 :]
        write(
            root / f"conditions-{folder}",
            conditions_schema(CONDITIONS),
            *([conditions(clip) for clip in half] for half in halves),
        )
        write(
            root / f"candidates-{folder}",
            candidates_schema(TensorType("float16", LATENT)),
            *([row for clip in half for row in candidates(clip)] for half in halves),
            made_of={"conditions": root / f"conditions-{folder}"},
        )
    pairs = [
        {
            "clip_id": clip, "winner": 2, "loser": 0, "winner_good": 0.9, "winner_bad": 0.0, "loser_good": 0.1,
            "loser_bad": 0.6, "complexity": 0.54, "source": "audioscore",
            "phase": "easy" if index % 3 else "hard",
        }
        for index, clip in enumerate(reversed(clips))
    ]  # fmt: skip
    made_of = {"rated_candidates": root / "candidates-0", "candidates": root / "candidates-1"}
    write(root / "pairs", PAIRS, pairs, made_of=made_of)
    (root / "generator").mkdir()
    small_model().save(root / "generator")
    return Problem(root)
