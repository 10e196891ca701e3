"""The gallery: clips with one silent video and a soundtrack per system, spread over the ranking by change."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Array
from v2a_dpo.evaluation.folder import REAL, EvaluationFolder
from v2a_dpo.evaluation.inputs import System
from v2a_dpo.evaluation.metrics import Comparison, Metric
from v2a_dpo.evaluation.tables import metric_title, system_title
from v2a_dpo.media.audio import decode_flac, encode_flac, read_audio
from v2a_dpo.media.mp4 import H264Pictures
from v2a_dpo.media.spectrogram_figure import Panel, spectrogram_figure
from v2a_dpo.media.video import FrameStream, read_frames

#: The metrics that a card shows for its clip, where all systems have them.
_CLIP_NUMBERS = ("rater_quality", "kl_panns", "ib_score", "desync_s")
_MAX_SIDE = 360
_MAX_RATE = 25.0


@dataclass(frozen=True)
class Track:
    """Mono audio `[S]` of one clip at `sample_rate`."""

    audio: Tensor
    sample_rate: int


@dataclass(frozen=True)
class GalleryClip:
    """One card: media as data URIs, real audio first, the spectrograms as SVG, numbers as (title, one per system)."""

    clip_id: str
    prompt: str
    video: str
    tracks: Mapping[str, str]
    spectrograms: str
    numbers: Sequence[tuple[str, Sequence[str]]]


class RankedClips:
    """The clips of an evaluation in the order of how much the systems improve on the reference system, and their
    numbers."""

    def __init__(self, folder: EvaluationFolder, comparison: Comparison) -> None:
        self._systems = list(comparison.systems)
        self._numbers: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in folder.per_clip().to_pylist():
            self._numbers.setdefault(row["clip_id"], {})[row["system"]] = row
        # The rise of the rater's quality where it rated all, else the fall of KL.
        rated = all(row["rater_quality"] is not None for rows in self._numbers.values() for row in rows.values())
        key, sign = ("rater_quality", 1.0) if rated else ("kl_panns", -1.0)
        reference = self._values(comparison.reference, key)
        gains = [sign * (self._values(system, key) - reference) for system in comparison.others]
        self._change = np.mean(gains, axis=0)

    def spread(self, count: int) -> list[str]:
        """`count` clips evenly spaced in the ranking, most improved first."""
        clip_ids = list(self._numbers)
        return [clip_ids[row] for row in choose_clips(self._change, count=count)]

    def median(self) -> str:
        """The clip of median change."""
        ranking = self.spread(len(self._numbers))
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
        return np.array([rows[system][key] for rows in self._numbers.values()], dtype=np.float64)


class GalleryMedia:
    """The test clips' videos, sounds and events, read when a card needs them."""

    def __init__(
        self, *, clips: str, systems: Mapping[str, System], event_times_s: Mapping[str, Sequence[float]]
    ) -> None:
        table = Dataset.open(clips, CLIPS).table()
        self._clips = {row["clip_id"]: row for row in table.to_pylist()}
        self._candidates = {name: Dataset.open(folders[0], "candidates") for name, folders in systems.items()}
        self._event_times_s = event_times_s

    def figure(self, clip_id: str) -> str:
        """The spectrograms of the clip's tracks as SVG, with marks where its events are known."""
        return clip_figure(self._tracks(clip_id), clip_id=clip_id, event_times_s=self._event_times_s.get(clip_id, ()))

    def card(self, clip_id: str, numbers: Sequence[tuple[str, Sequence[str]]]) -> GalleryClip:
        """The gallery's card of a clip, with `numbers` as (title, one per system)."""
        clip, tracks = self._clips[clip_id], self._tracks(clip_id)
        video = preview_mp4(
            clip["video"],
            start_s=clip["start_s"],
            duration_s=clip["duration_s"],
            width=clip["width"],
            height=clip["height"],
            frame_rate=clip["frame_rate"],
        )
        sounds = {name: encode_flac(track.audio, track.sample_rate) for name, track in tracks.items()}
        return GalleryClip(
            clip_id=clip_id,
            prompt=clip["prompt"] or "",
            video=_data_uri(video, "video/mp4"),
            tracks={name: _data_uri(sound, "audio/flac") for name, sound in sounds.items()},
            spectrograms=clip_figure(tracks, clip_id=clip_id, event_times_s=self._event_times_s.get(clip_id, ())),
            numbers=numbers,
        )

    def _tracks(self, clip_id: str) -> dict[str, Track]:
        """The real audio of a clip at the first system's sample rate, and each system's audio."""
        generated = {name: Track(*_first_audio(source, clip_id)) for name, source in self._candidates.items()}
        sample_rate = next(iter(generated.values())).sample_rate
        clip = self._clips[clip_id]
        real = read_audio(
            clip["video"], sample_rate=sample_rate, start_s=clip["start_s"], duration_s=clip["duration_s"]
        )
        return {REAL: Track(real, sample_rate), **generated}


def choose_clips(change_N: NDArray[np.floating], *, count: int) -> list[int]:
    """The rows of `count` clips evenly spaced in the ranking of `change_N`, most improved (largest) first.

    Best, middling and worst cases are all among them, so the gallery cannot be a choice of successes.
    """
    ranking = np.argsort(-change_N, kind="stable")
    places = np.unique(np.linspace(0, len(ranking) - 1, min(count, len(ranking))).round().astype(int))
    return [int(ranking[place]) for place in places]


def preview_mp4(path: str, *, start_s: float, duration_s: float, width: int, height: int, frame_rate: float) -> bytes:
    """The clip's picture without sound as an mp4 (H.264) of at most 360 pixels a side that every browser plays."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    even_width, even_height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
    rate = round(min(frame_rate or _MAX_RATE, _MAX_RATE)) or 1
    stream = FrameStream("preview", rate, even_height, even_width, "stretch")
    frames = read_frames(path, [stream], start_s=start_s, duration_s=duration_s)["preview"]
    sink = BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        video = H264Pictures(container, rate=Fraction(rate), width=even_width, height=even_height, crf=24)
        for index, frame in enumerate(frames):
            container.mux(video.encode(frame, index / rate))
        container.mux(video.finish())
    return sink.getvalue()


def clip_figure(tracks: Mapping[str, Track], *, clip_id: str, event_times_s: Sequence[float]) -> str:
    """The spectrograms of a clip's tracks, real audio first, as SVG."""
    panels = [
        Panel(system_title(name), f"track-{place}", track.audio, track.sample_rate)
        for place, (name, track) in enumerate(tracks.items())
    ]
    events = f" with {len(event_times_s)} event marks" if event_times_s else ""
    titles = ", ".join(panel.title.lower() for panel in panels)
    return spectrogram_figure(
        panels, event_times_s=event_times_s, description=f"Mel spectrograms of clip {clip_id}: {titles}{events}"
    )


def _first_audio(source: Dataset, clip_id: str) -> tuple[Tensor, int]:
    """The audio of a clip's sample 0; only the shard that holds it is read with its audio."""
    for entry in source.shards:
        keys = source.shard(entry, ["clip_id", "sample"])
        is_first = pc.and_(pc.equal(keys["clip_id"], clip_id), pc.equal(keys["sample"], 0))
        if pc.any(is_first).as_py():
            row = source.shard(entry, ["audio"]).filter(is_first).to_pylist()[0]
            return decode_flac(row["audio"]["bytes"])
    raise UserError(
        f"Clip {clip_id!r} was evaluated but has no audio here.",
        where=source.folder,
        remedy="Give the report the same folders as the evaluation, or evaluate again.",
    )


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
