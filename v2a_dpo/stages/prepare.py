"""Stage: from videos and captions to the clips table and the cached conditions of a generator."""

from __future__ import annotations

from contextlib import closing

import pyarrow.parquet as pq

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import file_sizes, join, open_input
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.artifacts.shard_file import StoredShard, stored_shard
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent, ShardTask, build_dataset, shard_name
from v2a_dpo.clip_table import ClipSource, accepted, clip_rows, find_sources, identity, rejections
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.media.captions import read_clips
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.preparation import ConditionExtractor
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
) -> BuildSummary:
    """Writes the clips table and the conditions of `videos` and says what was done.

    A clip that cannot be used (no video, damaged, too short, listed twice) goes to the quarantine of both; every clip in
    the table has conditions. Shards follow the lines of `captions`, so that a video that turns up later re-makes one
    shard. `shards` makes only these, without manifests. Raises UserError when not a single clip can be used.
    """
    sources = find_sources(read_clips(videos, captions, split=split))
    size = params.prepare.clips_per_shard
    parts = [sources[start : start + size] for start in range(0, len(sources), size)]
    if not parts:
        raise UserError("There are no videos.", where=videos, remedy="Name a folder that holds videos.")
    model_fingerprint = folder_fingerprint(generator)
    _prepare_conditions(params, parts, generator, model_fingerprint, conditions, shards=shards, progress=progress)
    stored = _stored(conditions, range(len(parts)) if shards is None else shards)

    def make(index: int) -> ShardContent:
        usable = _clip_ids(conditions, stored[index])
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
            ShardTask(index, [stored[index].entry.fingerprint, identity(part)] if index in stored else [])
            for index, part in enumerate(parts)
        ],
        make=make,
        code=code_of(prepare),
        keep=params.keep_artifacts,
        only=shards,
    )
    if shards is None and not summary.rows:
        raise UserError(
            f"None of {len(sources)} clips can be used: {summary}.",
            where=videos,
            remedy=f"See {join(clips, '_quarantine.parquet')} for the reasons.",
        )
    return summary


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
        made = extractor.extract(accepted(part), progress=lambda count: report(settled + count))
        return ShardContent(made.rows, [*rejections(part), *made.quarantined])

    with closing(extractor):
        build_dataset(
            output,
            extractor.schema,
            parameters=[settings.duration_s, settings.clips_per_batch, params.generator.precision],
            inputs={"generator": model_fingerprint, **frozen},
            tasks=[ShardTask(part, [model_fingerprint, *frozen.values(), identity(part)]) for part in parts],
            make=make,
            code=code_of(_prepare_conditions, *model.code("conditions")),
            keep=params.keep_artifacts,
            progress=lambda done, _: report(done * settings.clips_per_shard),
            only=shards,
        )


def _stored(folder: str, indices: range | list[int]) -> dict[int, StoredShard]:
    """What the finished shards of a folder say, by their index."""
    sizes = file_sizes(folder)
    shards = {index: stored_shard(folder, shard_name(index), sizes[shard_name(index)]) for index in indices}
    return {index: shard for index, shard in shards.items() if shard is not None}


def _clip_ids(folder: str, shard: StoredShard) -> set[str]:
    with open_input(join(folder, shard.entry.name)) as file:
        return set(pq.read_table(file, columns=["clip_id"]).column("clip_id").to_pylist())
