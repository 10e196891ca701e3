"""Stage: from videos and captions to the clips table and the cached conditions of a generator."""

from __future__ import annotations

from contextlib import closing

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.data.captions import read_clips
from v2a_dpo.data.clips import (
    ClipSource,
    PreparationSummary,
    accepted,
    clip_rows,
    conditions_digest,
    first_names,
    rejections,
    rows_digest,
    source_shards,
)
from v2a_dpo.data.conditions import ConditionExtractor, clip_ids_in, stored_conditions
from v2a_dpo.errors import UserError
from v2a_dpo.media.video_files import VideoFolder
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent


def prepare(
    params: Params,
    *,
    videos: str,
    captions: str | None,
    split: str,
    generator: str,
    clips: str,
    conditions: str,
    shards: list[int] | None = None,
    progress: Progress = silent,
) -> PreparationSummary:
    """Writes the clips table and the conditions of `videos`; returns the counts.

    A clip that cannot be used (no video, damaged, too short, listed twice) goes to the quarantine of both; every clip
    in the table has conditions. Shards follow the lines of `captions`, so that a video that is added later re-makes one
    shard. `shards` makes only these, without manifests, and reads their videos alone. Raises UserError when no clip can
    be used.
    """
    folder = VideoFolder(videos)
    listed = read_clips(folder, captions, split=split)
    not_taken = folder.others if captions is None else []
    if not listed:
        raise UserError(
            f"There are no videos{first_names(not_taken)}.", where=videos, remedy="Name a folder that holds videos."
        )
    parts = source_shards(listed, params.prepare.clips_per_shard, only=shards)
    model_fingerprint = folder_fingerprint(generator)
    _prepare_conditions(params, parts, generator, model_fingerprint, conditions, shards=shards, progress=progress)
    stored = stored_conditions(conditions, range(len(parts)) if shards is None else shards)

    def make(index: int) -> ShardContent:
        usable = clip_ids_in(conditions, stored[index])
        rows = clip_rows(parts[index], usable=usable, split=split, duration_s=params.prepare.duration_s)
        return ShardContent(
            rows.rows, [QuarantinedRow(**row) for row in stored[index].quarantined] + [*rows.quarantined]
        )

    summary = build_dataset(
        clips,
        CLIPS,
        parameters=[split, params.prepare.duration_s],
        inputs={"generator": model_fingerprint},
        tasks=[
            ShardTask(index, [stored[index].entry.fingerprint, rows_digest(part)] if index in stored else [])
            for index, part in enumerate(parts)
        ],
        make=make,
        code=code_of(prepare),
        keep=params.keep_artifacts,
        only=shards,
    )
    if shards is None and not summary.rows:
        raise UserError(
            f"None of {len(listed)} clips can be used: {summary}.",
            where=videos,
            remedy=f"See {join(clips, '_quarantine.parquet')} for the reasons.",
        )
    return PreparationSummary(**vars(summary), not_taken=not_taken)


def _prepare_conditions(
    params: Params,
    parts: list[list[ClipSource]],
    generator: str,
    model_fingerprint: str,
    output: str,
    *,
    shards: list[int] | None,
    progress: Progress,
) -> None:
    with local_copy(generator) as folder:
        model = load_generator(folder, device=params.generator.device)
    frozen = model.frozen_weights("conditions")
    settings = params.prepare
    extractor = ConditionExtractor(
        model,
        duration_s=settings.duration_s,
        workers=settings.workers,
        clips_per_batch=settings.clips_per_batch,
        precision=params.generator.precision,
    )
    total, settled = sum(len(part) for part in parts), 0

    def report(done: int) -> None:
        nonlocal settled
        settled = min(max(settled, done), total)
        progress("Preparing", settled, total)

    def make(part: list[ClipSource]) -> ShardContent:
        content = extractor.extract(accepted(part), progress=lambda count: report(settled + count))
        return ShardContent(content.rows, [*rejections(part), *content.quarantined])

    with closing(extractor):
        build_dataset(
            output,
            extractor.schema,
            parameters=[settings.duration_s, settings.clips_per_batch, params.generator.precision],
            inputs={"generator": model_fingerprint, **frozen},
            tasks=[ShardTask(part, [model_fingerprint, *frozen.values(), conditions_digest(part)]) for part in parts],
            make=make,
            code=code_of(_prepare_conditions, *model.code("conditions")),
            keep=params.keep_artifacts,
            progress=lambda done, _: report(done * settings.clips_per_shard),
            only=shards,
        )
