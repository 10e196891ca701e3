"""Stage: N candidates for every clip, their latents and their audio (paper 2.2; N = 5 in 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import torch

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.manifest import ShardEntry
from v2a_dpo.artifacts.schema import TensorType, candidates_schema, tensor_column
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.generation.engine import CandidateEngine, ClipCandidates
from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.models.base import Conditions, VideoToAudioModel
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.models.durations import check_conditions
from v2a_dpo.progress import Progress, silent
from v2a_dpo.randomness import row_seed


def generate(
    params: Params,
    *,
    conditions: str,
    generator: str,
    output: str,
    candidates: int | None = None,
    guidance_scale: float | None = None,
    use_text: bool | None = None,
    limit: int | None = None,
    shards: list[int] | None = None,
    progress: Progress = silent,
) -> BuildSummary:
    """Writes the candidates of all clips in the `conditions` folder to `output`; returns the counts.

    `candidates`, `guidance_scale` and `use_text` override the parameters, `limit` keeps the first clips of each shard
    (for guidance curves), `shards` makes only these; a later call without it writes the manifest. A clip whose
    audio is not finite goes to quarantine. Raises UserError when the conditions are not those of clips of
    `prepare.duration_s` seconds for this generator, and when memory does not suffice for one clip.
    """
    source = Dataset.open(conditions, "conditions")
    settings = SamplingSettings(
        candidates=candidates or params.generate.candidates,
        steps=params.generate.steps,
        guidance_scale=guidance_scale or params.generate.guidance_scale,
        seed=params.seed,
        use_text=params.generate.use_text if use_text is None else use_text,
    )
    with local_copy(generator) as files:
        model = load_generator(files, device=params.generator.device)
    check_conditions(source, model, params.prepare.duration_s)
    sampler = _sampler(params, model, settings, compiled=params.generate.compile)
    batch_size = params.generate.clips_per_batch
    engine = CandidateEngine(sampler, clips_per_batch=None if batch_size == "auto" else batch_size)
    model_fingerprint = folder_fingerprint(generator)
    frozen = model.frozen_weights("velocity", "decoding")
    schema = candidates_schema(TensorType("float16", sampler.latent_shape))

    def make(entry: ShardEntry) -> ShardContent:
        return ShardContent(_rows(engine, source.shard(entry).slice(0, limit), settings, model.sample_rate))

    return build_dataset(
        output,
        schema,
        # The batch size is left out: it changes rounding at most.
        parameters=[vars(settings), params.prepare.duration_s, limit, params.generator.precision],
        inputs={"conditions": source.fingerprint, "generator": model_fingerprint, **frozen},
        tasks=[ShardTask(entry, [entry.sha256, model_fingerprint, *frozen.values()]) for entry in source.shards],
        make=make,
        code=code_of(generate, *model.code("velocity", "decoding")),
        keep=params.keep_artifacts,
        only=shards,
        progress=partial(progress, "Generating"),
    )


def _sampler(
    params: Params, model: VideoToAudioModel, settings: SamplingSettings, *, compiled: bool | Literal["auto"]
) -> CandidateSampler:
    """The sampler of `model`, whose network it takes over, in the precision of the parameters; `auto` compiles on
    GPUs."""
    device, precision = next(model.network.parameters()).device, getattr(torch, params.generator.precision)
    model.prepare_for_sampling(precision)
    return CandidateSampler(
        model,
        settings,
        duration_s=params.prepare.duration_s,
        precision=precision,
        compile_backend="inductor" if (device.type == "cuda" if compiled == "auto" else compiled) else None,
    )


def _conditions(clips: pa.Table) -> Conditions:
    names = [name for name in clips.schema.names if name != "clip_id"]
    return Conditions({name: torch.from_numpy(tensor_column(clips, name).copy()) for name in names})


def _rows(
    engine: CandidateEngine, clips: pa.Table, settings: SamplingSettings, sample_rate: int
) -> Iterator[dict[str, Any] | QuarantinedRow]:
    """The rows of the clips' candidates, and the clips that failed, as they come out of the engine."""
    for result in engine.generate(clips.column("clip_id").to_pylist(), _conditions(clips)):
        if isinstance(result, QuarantinedRow):
            yield result
        else:
            yield from _rows_of_clip(result, settings, sample_rate)


def _rows_of_clip(candidates: ClipCandidates, settings: SamplingSettings, sample_rate: int) -> list[dict[str, Any]]:
    clip_id = candidates.clip_id
    return [
        {
            "clip_id": clip_id,
            "sample": sample,
            "seed": row_seed(settings.seed, clip_id, sample),
            "steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
            "use_text": settings.use_text,
            "sample_rate": sample_rate,
            "latent": candidates.latents[sample].tobytes(),
            "audio": {"bytes": flac, "path": None},
        }
        for sample, flac in enumerate(candidates.flac)
    ]
