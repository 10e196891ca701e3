"""Stage: from videos and captions to the clips table and the cached conditions of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import file_sizes, join, open_input
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.artifacts.shard_file import StoredShard, stored_shard
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent, ShardTask, build_dataset, shard_name
from v2a_dpo.config import Params
from v2a_dpo.data.captions import CaptionedClip, RejectedClip, read_clips
from v2a_dpo.data.clips import ClipSource, accepted, clip_rows, content, find_sources, identity, rejections
from v2a_dpo.data.conditions import ConditionExtractor
from v2a_dpo.errors import UserError
from v2a_dpo.media.video_files import VideoFolder
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent

_FILES_NAMED = 5


@dataclass
class PreparationSummary(BuildSummary):
    """What was made, and which files of a folder without a table were not taken for videos."""

    not_taken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return super().__str__() + _named(self.not_taken)


def _named(not_taken: Sequence[str]) -> str:
    """How many files were not taken and what they are called, as the end of a sentence; empty for none."""
    if not not_taken:
        return ""
    more = f" and {len(not_taken) - _FILES_NAMED:,} more" if len(not_taken) > _FILES_NAMED else ""
    return f"; not taken for a video: {len(not_taken):,} ({', '.join(not_taken[:_FILES_NAMED])}{more})"


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
    """Writes the clips table and the conditions of `videos` and says what was done.

    A clip that cannot be used (no video, damaged, too short, listed twice) goes to the quarantine of both; every clip
    in the table has conditions. Shards follow the lines of `captions`, so that a video that turns up later re-makes one
    shard. `shards` makes only these, without manifests, and looks at their videos alone. Raises UserError when not a
    single clip can be used.
    """
    folder = VideoFolder(videos)
    listed = read_clips(folder, captions, split=split)
    not_taken = folder.others if captions is None else []
    if not listed:
        raise UserError(
            f"There are no videos{_named(not_taken)}.", where=videos, remedy="Name a folder that holds videos."
        )
    parts = _parts(listed, params.prepare.clips_per_shard, shards)
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
            f"None of {len(listed)} clips can be used: {summary}.",
            where=videos,
            remedy=f"See {join(clips, '_quarantine.parquet')} for the reasons.",
        )
    return PreparationSummary(**vars(summary), not_taken=not_taken)


def _parts(listed: list[CaptionedClip | RejectedClip], size: int, shards: list[int] | None) -> list[list[ClipSource]]:
    """The clips shard by shard, `size` each; one that is not made here is left empty: no one looks at its videos."""
    starts = range(0, len(listed), size)
    if beyond := [index for index in shards or [] if index >= len(starts)]:
        raise UserError(
            f"Shard {beyond[0]} is to be made, and there are only {len(starts)} now.",
            where="shards",
            remedy="Videos or lines were taken away since the shards were planned: plan them again.",
        )
    wanted = range(len(starts)) if shards is None else shards
    return [find_sources(listed[start : start + size]) if index in wanted else [] for index, start in enumerate(starts)]


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
            tasks=[ShardTask(part, [model_fingerprint, *frozen.values(), content(part)]) for part in parts],
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
