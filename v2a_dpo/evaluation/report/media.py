"""Single clips in the report: which are shown, their numbers, and their video, sounds and events, read on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from torch import Tensor

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Array
from v2a_dpo.evaluation.folder import REAL, EvaluationFolder
from v2a_dpo.evaluation.inputs import System
from v2a_dpo.evaluation.metrics import Comparison, Metric
from v2a_dpo.evaluation.report.gallery import GalleryClip, Track, choose_clips, gallery_clip, preview_mp4
from v2a_dpo.evaluation.tables import metric_title
from v2a_dpo.media.audio import decode_flac, read_audio

#: The metrics that a card shows for its clip, where all systems have them.
_CLIP_NUMBERS = ("rater_quality", "kl_panns", "ib_score", "desync_s")


class ShownClips:
    """The clips of an evaluation by how much the systems changed them, and the numbers of each."""

    def __init__(self, folder: EvaluationFolder, comparison: Comparison) -> None:
        self._systems = list(comparison.systems)
        self._numbers: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in folder.per_clip().to_pylist():
            self._numbers.setdefault(row["clip_id"], {})[row["system"]] = row
        self._clip_ids = list(self._numbers)
        # Improvement over the reference system: the rater's where it rated all, else the fall of KL.
        rated = all(row["rater_quality"] is not None for rows in self._numbers.values() for row in rows.values())
        key, sign = ("rater_quality", 1.0) if rated else ("kl_panns", -1.0)
        reference = self._values(comparison.reference, key)
        gains = [sign * (self._values(system, key) - reference) for system in comparison.others]
        self._gain = np.mean(gains, axis=0)

    def spread(self, count: int) -> list[str]:
        """`count` clips evenly spaced in the ranking by change, most improved first."""
        return [self._clip_ids[row] for row in choose_clips(self._gain, count=count)]

    def median(self) -> str:
        """The clip of median change."""
        ranking = self.spread(len(self._clip_ids))
        return ranking[len(ranking) // 2]

    def numbers(self, clip_id: str, metrics: Sequence[Metric]) -> list[tuple[str, list[str]]]:
        """The title and each system's number of the `metrics` that all systems have for the clip."""
        numbers = []
        for metric in metrics:
            if metric.key in _CLIP_NUMBERS:
                values = [self._numbers[clip_id][system][metric.key] for system in self._systems]
                texts = [f"{value:.{metric.decimals}f}" for value in values if value is not None]
                if len(texts) == len(values):
                    numbers.append((metric_title(metric), texts))
        return numbers

    def _values(self, system: str, key: str) -> Array:
        return np.array([self._numbers[clip_id][system][key] for clip_id in self._clip_ids], dtype=np.float64)


class GalleryMedia:
    """The held-out clips' videos, sounds and events, read when a card needs them."""

    def __init__(
        self, *, clips: str, systems: Mapping[str, System], event_times_s: Mapping[str, Sequence[float]]
    ) -> None:
        table = Dataset.open(clips, CLIPS).table()
        self._clips = {row["clip_id"]: row for row in table.to_pylist()}
        self._candidates = {name: Dataset.open(folders[0], "candidates") for name, folders in systems.items()}
        self._event_times_s = event_times_s

    def events(self, clip_id: str) -> Sequence[float]:
        """The times in s at which something happens in the clip, where they are known."""
        return self._event_times_s.get(clip_id, ())

    def tracks(self, clip_id: str) -> dict[str, Track]:
        """The real audio of a clip at the first system's sample rate, and each system's audio."""
        generated = {name: Track(*_first_audio(source, clip_id)) for name, source in self._candidates.items()}
        sample_rate = next(iter(generated.values())).sample_rate
        clip = self._clips[clip_id]
        real = read_audio(
            clip["video"], sample_rate=sample_rate, start_s=clip["start_s"], duration_s=clip["duration_s"]
        )
        return {REAL: Track(real, sample_rate), **generated}

    def card(self, clip_id: str, numbers: Sequence[tuple[str, Sequence[str]]]) -> GalleryClip:
        """The gallery's card of a clip, with `numbers` as (title, one per system)."""
        clip = self._clips[clip_id]
        video = preview_mp4(
            clip["video"],
            start_s=clip["start_s"],
            duration_s=clip["duration_s"],
            width=clip["width"],
            height=clip["height"],
            frame_rate=clip["frame_rate"],
        )
        return gallery_clip(
            clip_id=clip_id,
            prompt=clip["prompt"] or "",
            video=video,
            tracks=self.tracks(clip_id),
            event_times_s=self.events(clip_id),
            numbers=numbers,
        )


def _first_audio(source: Dataset, clip_id: str) -> tuple[Tensor, int]:
    """The audio of a clip's sample 0; only the shard that holds it is read with its audio."""
    for entry in source.shards:
        keys = source.shard(entry, ["clip_id", "sample"])
        wanted = pc.and_(pc.equal(keys["clip_id"], clip_id), pc.equal(keys["sample"], 0))
        if pc.any(wanted).as_py():
            row = source.shard(entry, ["audio"]).filter(wanted).to_pylist()[0]
            return decode_flac(row["audio"]["bytes"])
    raise UserError(
        f"Clip {clip_id!r} was evaluated but has no audio here.",
        where=source.folder,
        remedy="Give the report the same folders as the evaluation, or evaluate again.",
    )
