"""Stage: N candidates for every clip, their latents and their audio (paper section 3.2: N = 5)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.manifest import ShardEntry
from v2a_dpo.artifacts.schema import TensorType, candidates_schema, tensor_column
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.generation import CandidateSampler, SamplingSettings
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.models.base import Conditions
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent
from v2a_dpo.randomness import row_seed

#: Latents are stored in half precision (27.6 KB for 8 s of MMAudio 44k), and the audio is decoded from what is stored.
LATENT_DTYPE = torch.float16


def generate(
    params: Params,
    *,
    conditions: str,
    generator: str,
    output: str,
    candidates: int | None = None,
    guidance_scale: float | None = None,
    limit: int | None = None,
    shards: list[int] | None = None,
    progress: Progress = silent,
) -> BuildSummary:
    """Writes the candidates of all clips in the `conditions` folder to `output` and says what was done.

    `candidates` and `guidance_scale` override the parameters, `limit` keeps the first clips of each shard (for guidance
    curves), `shards` makes only these and leaves the manifest to a later call without it. A clip whose audio is not
    finite goes to quarantine.
    """
    source = Dataset.open(conditions, "conditions")
    settings = SamplingSettings(
        candidates=candidates or params.generate.candidates,
        steps=params.generate.steps,
        guidance_scale=guidance_scale or params.generate.guidance_scale,
        seed=params.seed,
    )
    model = load_generator(generator, device=params.generator.device)
    sampler = CandidateSampler(model, settings, duration_s=params.prepare.duration_s)
    model_fingerprint = folder_fingerprint(generator)
    schema = candidates_schema(TensorType("float16", sampler.latent_shape))

    def make(entry: ShardEntry) -> ShardContent:
        content = ShardContent([], [])
        table = source.shard(entry)
        for batch in _batches(table if limit is None else table.slice(0, limit), params.generate.clips_per_batch):
            rows, quarantined = _candidates(sampler, batch)
            content = ShardContent([*content.rows, *rows], [*content.quarantined, *quarantined])
        return content

    return build_dataset(
        output,
        schema,
        parameters=[vars(settings), params.prepare.duration_s, limit, params.generate.clips_per_batch],
        inputs={"conditions": source.fingerprint, "generator": model_fingerprint},
        tasks=[ShardTask(entry, [entry.sha256, model_fingerprint]) for entry in source.shards],
        make=make,
        code=[
            "v2a_dpo.stages.generate",
            "v2a_dpo.generation",
            "v2a_dpo.flow",
            "v2a_dpo.models",
            type(model).__module__,
        ],
        only=shards,
        progress=partial(progress, "Generating"),
    )


def _batches(table: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, size):
        yield table.slice(start, size)


def _candidates(sampler: CandidateSampler, clips: pa.Table) -> tuple[list[dict[str, Any]], list[QuarantinedRow]]:
    """The rows of one batch of clips, and the clips that failed."""
    clip_ids = clips.column("clip_id").to_pylist()
    names = [name for name in clips.schema.names if name != "clip_id"]
    conditions = Conditions({name: torch.from_numpy(tensor_column(clips, name).copy()) for name in names})
    latents = sampler.latents(clip_ids, conditions).to(LATENT_DTYPE).cpu()
    audio = sampler.audio(latents.float())
    rows: list[dict[str, Any]] = []
    quarantined: list[QuarantinedRow] = []
    for clip, clip_id in enumerate(clip_ids):
        if not bool(torch.isfinite(audio[clip]).all()):
            quarantined.append(
                QuarantinedRow(clip_id, "NonFiniteAudio", "the generator returned infinite or undefined samples")
            )
            continue
        for sample in range(sampler.settings.candidates):
            rows.append(
                {
                    "clip_id": clip_id,
                    "sample": sample,
                    "seed": row_seed(sampler.settings.seed, clip_id, sample),
                    "steps": sampler.settings.steps,
                    "guidance_scale": sampler.settings.guidance_scale,
                    "sample_rate": sampler.model.sample_rate,
                    "latent": latents[clip, sample].numpy().tobytes(),
                    "audio": {"bytes": encode_flac(audio[clip, sample], sampler.model.sample_rate), "path": None},
                }
            )
    return rows, quarantined
