"""The scoring engine: from clips and their candidates to rows of five scores, reading files meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.media.clip_reading import ClipMedia, ClipRequest, read_clip
from v2a_dpo.media.errors import AudioUnreadable, MediaError
from v2a_dpo.memory import memory_shortage_stops
from v2a_dpo.scoring.base import Missing, Score, Scorer, ScoringClip, all_streams, score_batch
from v2a_dpo.scoring.pesq_worker import PESQ_RATE as REFERENCE_RATE

_FILES_AT_ONCE = 4
#: A generator's sound ends with its last latent step (at most 32 ms), not with the clip.
_TOLERANCE_S = 0.05


@dataclass(frozen=True)
class _Candidates:
    """The candidates of one clip: their numbers and their sounds `[N, S]`."""

    clip_id: str
    samples: list[int]
    audio: Tensor
    sample_rate: int


class CandidateScorer:
    """Scores candidates of the clips in `clips` (clip id -> row of the clips table), `clips_per_batch` clips at a
    time."""

    def __init__(
        self, scorers: Mapping[str, Scorer], clips: Mapping[str, Mapping[str, Any]], *, clips_per_batch: int
    ) -> None:
        self._scorers = scorers
        self._streams = all_streams(scorers)
        self._clips = clips
        self._clips_per_batch = clips_per_batch

    @memory_shortage_stops("scoring candidates", remedy="lower score.clips_per_batch or score.pesq_workers")
    def score(self, candidates: pa.Table, *, progress: Callable[[int], None]) -> ShardContent:
        """The scores of all rows of `candidates`, a clip's neighbours; clips that cannot be read are quarantined.

        `progress` is called with the number of clips of each finished batch. Raises UserError when sounds do not last
        as long as their clips, and when memory runs out or a remote video cannot be reached: neither is caused by a
        clip.
        """
        rows: list[dict[str, Any]] = []
        quarantined: list[QuarantinedRow] = []
        with ThreadPoolExecutor(_FILES_AT_ONCE) as readers:
            for batch in self._with_media(self._batches(candidates, quarantined), readers):
                usable = [(item, media) for item, media in batch if isinstance(media, ClipMedia)]
                quarantined += [
                    QuarantinedRow.of(item.clip_id, media) for item, media in batch if isinstance(media, MediaError)
                ]
                if usable:
                    rows += self._rows(usable)
                progress(len(batch))
        return ShardContent(rows, quarantined)

    def _batches(self, candidates: pa.Table, quarantined: list[QuarantinedRow]) -> Iterator[list[_Candidates]]:
        """Neighbouring clips with equally many candidates of equal length; damaged ones go to `quarantined`."""
        batch: list[_Candidates] = []
        for item in _by_clip(candidates, quarantined):
            sound_s = item.audio.shape[1] / item.sample_rate
            _check_duration(sound_s, clip_s=self._clips[item.clip_id]["duration_s"], where=f"clip {item.clip_id}")
            alike = not batch or (batch[0].sample_rate, batch[0].audio.shape) == (
                item.sample_rate,
                item.audio.shape,
            )
            if len(batch) == self._clips_per_batch or not alike:
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _with_media(
        self, batches: Iterable[list[_Candidates]], readers: ThreadPoolExecutor
    ) -> Iterator[list[tuple[_Candidates, ClipMedia | MediaError]]]:
        """Each batch with what its videos hold; the next batch's videos are read meanwhile."""
        waiting: list[tuple[_Candidates, Future[ClipMedia | MediaError]]] = []
        for batch in batches:
            reading = [(item, readers.submit(read_clip, self._request(item.clip_id))) for item in batch]
            if waiting:
                yield [(item, future.result()) for item, future in waiting]
            waiting = reading
        if waiting:
            yield [(item, future.result()) for item, future in waiting]

    def _request(self, clip_id: str) -> ClipRequest:
        clip = self._clips[clip_id]
        return ClipRequest(
            video=clip["video"],
            start_s=clip["start_s"],
            duration_s=clip["duration_s"],
            streams=self._streams,
            sample_rate=REFERENCE_RATE if clip["has_speech"] and clip["has_audio"] else None,
        )

    def _rows(self, items: list[tuple[_Candidates, ClipMedia]]) -> Iterator[dict[str, Any]]:
        clips = [self._scoring_clip(item.clip_id, media) for item, media in items]
        audio_BNS = torch.stack([item.audio for item, _ in items])
        table = score_batch(self._scorers, clips, audio_BNS, items[0][0].sample_rate)
        for (item, _), line in zip(items, table, strict=True):
            for sample, scores in zip(item.samples, line, strict=True):
                yield {"clip_id": item.clip_id, "sample": sample, **_columns(scores)}

    def _scoring_clip(self, clip_id: str, media: ClipMedia) -> ScoringClip:
        clip = self._clips[clip_id]
        return ScoringClip(
            clip_id=clip_id,
            frames={name: torch.from_numpy(frames) for name, frames in media.frames.items()},
            prompt=clip["prompt"],
            reference=None if media.audio is None else torch.from_numpy(media.audio),
            reference_rate=REFERENCE_RATE,
            has_speech=clip["has_speech"],
        )


def _by_clip(candidates: pa.Table, quarantined: list[QuarantinedRow]) -> Iterator[_Candidates]:
    """The table's clips in order, decoded one after the other: never all sounds of a shard in memory at once."""
    start = 0
    for clip_id, neighbours in groupby(candidates.column("clip_id").to_pylist()):
        count = len(list(neighbours))
        rows = candidates.slice(start, count).to_pylist()
        start += count
        try:
            sounds = [decode_flac(row["audio"]["bytes"])[0] for row in rows]
            if len({sound.shape for sound in sounds}) > 1:
                raise AudioUnreadable(
                    "The candidates of this clip differ in length.", where=clip_id, remedy="Generate them again."
                )
        except AudioUnreadable as error:
            quarantined.append(QuarantinedRow.of(clip_id, error))
            continue
        yield _Candidates(clip_id, [row["sample"] for row in rows], torch.stack(sounds), rows[0]["sample_rate"])


def _columns(scores: Mapping[str, Score]) -> dict[str, Any]:
    reasons = {name: score.reason for name, score in scores.items() if isinstance(score, Missing)}
    values = {name: None if isinstance(score, Missing) else score for name, score in scores.items()}
    return {**values, "missing": json.dumps(reasons, sort_keys=True, allow_nan=False) if reasons else None}


def _check_duration(sound_s: float, *, clip_s: float, where: str) -> None:
    """Raises UserError unless a generated sound of `sound_s` seconds belongs to a clip of `clip_s` seconds."""
    if abs(sound_s - clip_s) > _TOLERANCE_S:
        raise UserError(
            f"The sounds last {sound_s:.2f} s, the clip {clip_s:.2f} s.",
            where=where,
            remedy="Give the clips that the candidates were made for; clips of another "
            "prepare.duration_s need new candidates.",
        )
