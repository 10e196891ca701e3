"""The gallery: held-out clips with one silent video and a soundtrack per system, all inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from v2a_dpo.evaluation.tables import system_title
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.media.mp4 import H264Pictures
from v2a_dpo.media.spectrogram_figure import Panel, spectrogram_figure
from v2a_dpo.media.video import FrameStream, read_frames

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


def gallery_clip(
    *,
    clip_id: str,
    prompt: str,
    video: bytes,
    tracks: Mapping[str, Track],
    event_times_s: Sequence[float],
    numbers: Sequence[tuple[str, Sequence[str]]],
) -> GalleryClip:
    """The card of a clip."""
    sounds = {name: encode_flac(track.audio, track.sample_rate) for name, track in tracks.items()}
    return GalleryClip(
        clip_id=clip_id,
        prompt=prompt,
        video=data_uri(video, "video/mp4"),
        tracks={name: data_uri(sound, "audio/flac") for name, sound in sounds.items()},
        spectrograms=clip_figure(tracks, clip_id=clip_id, event_times_s=event_times_s),
        numbers=numbers,
    )


def data_uri(content: bytes, media_type: str) -> str:
    """`content` as a URI that carries it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
