"""The clips table: captioned clips with the digest of their videos, and the rows that describe them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from v2a_dpo.artifacts.fingerprint import content_probe, fingerprint
from v2a_dpo.artifacts.location import exists, is_remote
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent
from v2a_dpo.data.captions import CaptionedClip, RejectedClip
from v2a_dpo.errors import UserError
from v2a_dpo.media.errors import MediaError, VideoMissing, VideoUnreadable
from v2a_dpo.media.video import probe

_FILES_AT_ONCE = 8
_FILES_NAMED = 5


@dataclass
class PreparationSummary(BuildSummary):
    """The counts of a build, and the files of a folder without a table that are not videos."""

    not_taken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return super().__str__() + first_names(self.not_taken)


def first_names(not_taken: Sequence[str]) -> str:
    """The number and the first names of files that are not videos, as the end of a sentence; empty for none."""
    if not not_taken:
        return ""
    more = f" and {len(not_taken) - _FILES_NAMED:,} more" if len(not_taken) > _FILES_NAMED else ""
    return f"; not taken for a video: {len(not_taken):,} ({', '.join(not_taken[:_FILES_NAMED])}{more})"


@dataclass(frozen=True)
class ClipSource:
    """A listed clip with the `digest` of its video's content; None for a rejected clip."""

    clip: CaptionedClip | RejectedClip
    digest: str | None

    @property
    def identity(self) -> list[Any]:
        """All that the clip's row in the table depends on, as JSON values."""
        listed = str(self.clip.error) if isinstance(self.clip, RejectedClip) else asdict(self.clip)
        return [self.clip.clip_id, listed, self.digest]

    @property
    def content(self) -> list[Any]:
        """All that the clip's conditions depend on: the content of its video and its text, wherever the file lies."""
        if isinstance(self.clip, RejectedClip):
            return self.identity
        return [self.clip.clip_id, self.clip.prompt, self.clip.start_s, self.digest]


def source_shards(
    listed: Sequence[CaptionedClip | RejectedClip], size: int, *, only: Sequence[int] | None
) -> list[list[ClipSource]]:
    """The sources shard by shard, `size` each; `only` reads the videos of these shards and leaves the others empty.

    Raises UserError for a shard beyond the last one.
    """
    starts = range(0, len(listed), size)
    if beyond := [index for index in only or [] if index >= len(starts)]:
        raise UserError(
            f"Shard {beyond[0]} is to be made, but there are only {len(starts)} now.",
            where="shards",
            remedy="Videos or lines were removed since the shards were planned: plan them again.",
        )
    return [
        find_sources(listed[start : start + size]) if only is None or index in only else []
        for index, start in enumerate(starts)
    ]


def find_sources(listed: Sequence[CaptionedClip | RejectedClip]) -> list[ClipSource]:
    """The sources of `listed` clips in their order, several files at a time. A clip without its file is rejected."""
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(_source, listed))


def _source(clip: CaptionedClip | RejectedClip) -> ClipSource:
    if isinstance(clip, RejectedClip):
        return ClipSource(clip, None)
    if not exists(clip.video):
        remedy = "Add the file or drop the line."
        return ClipSource(
            RejectedClip(clip.clip_id, VideoMissing("There is no such video file.", where=clip.video, remedy=remedy)),
            None,
        )
    try:
        return ClipSource(clip, content_probe(clip.video))
    except UserError as error:
        if is_remote(clip.video):  # the service may be down for a moment, which is no property of the clip
            raise
        problem = VideoUnreadable(error.what, where=clip.video, remedy=error.remedy)
        return ClipSource(RejectedClip(clip.clip_id, problem), None)


def rows_digest(part: Sequence[ClipSource]) -> str:
    """A digest of all that the table's rows of `part` depend on."""
    return fingerprint([source.identity for source in part])


def conditions_digest(part: Sequence[ClipSource]) -> str:
    """A digest of all that the conditions of `part` depend on."""
    return fingerprint([source.content for source in part])


def accepted(part: Sequence[ClipSource]) -> list[CaptionedClip]:
    """The clips of `part` that were not rejected."""
    return [source.clip for source in part if isinstance(source.clip, CaptionedClip)]


def rejections(part: Sequence[ClipSource]) -> list[QuarantinedRow]:
    """The rows of `part` that were rejected, for the quarantine."""
    return [
        QuarantinedRow.of(source.clip.clip_id, source.clip.error)
        for source in part
        if isinstance(source.clip, RejectedClip)
    ]


def clip_rows(part: Sequence[ClipSource], *, usable: Collection[str], split: str, duration_s: float) -> ShardContent:
    """The table's rows of the clips of `part` that are accepted and `usable`; unreadable files are quarantined."""
    rows: list[dict[str, Any]] = []
    quarantined: list[QuarantinedRow] = []
    for source in part:
        if isinstance(source.clip, RejectedClip) or source.clip.clip_id not in usable:
            continue
        try:
            facts = probe(source.clip.video)
        except MediaError as error:
            quarantined.append(QuarantinedRow.of(source.clip.clip_id, error))
            continue
        rows.append(
            {
                **asdict(source.clip),
                "duration_s": duration_s,
                "split": split,
                "frame_rate": facts.frame_rate,
                "width": facts.width,
                "height": facts.height,
                "has_audio": facts.has_audio,
                "probe": source.digest,
            }
        )
    return ShardContent(rows, quarantined)
