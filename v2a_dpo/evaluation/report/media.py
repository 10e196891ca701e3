"""What the report stage shows of single clips: video, sounds and events, read when a card needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow.compute as pc
from torch import Tensor

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.inputs import System
from v2a_dpo.evaluation.report.gallery import GalleryClip, Track, gallery_clip, preview_mp4
from v2a_dpo.media.audio import decode_flac, read_audio


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
        """The real, the base and the aligned audio of a clip."""
        generated = {name: Track(*_first_audio(source, clip_id)) for name, source in self._candidates.items()}
        sample_rate = generated["base"].sample_rate
        clip = self._clips[clip_id]
        real = read_audio(
            clip["video"], sample_rate=sample_rate, start_s=clip["start_s"], duration_s=clip["duration_s"]
        )
        return {"reference": Track(real, sample_rate), **generated}

    def card(self, clip_id: str, numbers: Sequence[tuple[str, str, str]]) -> GalleryClip:
        """The gallery's card of a clip, with `numbers` as (name, base, aligned)."""
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
