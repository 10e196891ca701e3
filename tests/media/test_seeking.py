"""Clips that start inside a file, in the containers that people have: the frames asked for, whatever can be sought."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from v2a_dpo.media.audio import read_audio
from v2a_dpo.media.container import open_media
from v2a_dpo.media.video import FrameStream, read_frames, timed_frames, video_stream

RATE, SECONDS = 25, 4
STREAM = FrameStream("numbers", RATE, 16, 128, "stretch")
#: Name, video and audio codec, and what else there is: frames between key frames, and seconds before the first picture.
FILMS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("cam.ts", "libx264", "aac", {}),
    ("cam.m2ts", "libx264", "aac", {"options": {"mpegts_m2ts_mode": "1"}}),
    ("long.ts", "libx264", "aac", {"gop": 1000}),
    ("late.ts", "libx264", "aac", {"late_s": 1.2}),
    ("open.ts", "libx264", "aac", {"encoder": {"x264-params": "open-gop=1:keyint=30"}}),
    ("disc.mpg", "mpeg2video", "mp2", {}),
    ("disc.vob", "mpeg2video", "mp2", {"gop": 600}),
    ("old.avi", "libx264", "aac", {}),
    ("divx.avi", "mpeg4", "libmp3lame", {"encoder": {"bf": "2"}}),
    ("a.mkv", "libx264", "aac", {}),
    ("a.mp4", "libx264", "aac", {}),
    ("late.webm", "libvpx", "libopus", {"late_s": 1.2}),
    ("a.ogv", "libvpx", "libopus", {}),
    ("a.flv", "libx264", "aac", {}),
    ("a.wmv", "wmv2", "libmp3lame", {}),
    ("a.h264", "libx264", "", {}),
]


def _write_film(
    path: Path,
    codec: str,
    sound_codec: str,
    *,
    gop: int = 50,
    late_s: float = 0.0,
    encoder: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """A film whose frames show their number as eight bars, bit by bit, with faint noise for its sound."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=RATE, options=encoder or {})
        video.width, video.height, video.pix_fmt = 128, 32, "yuv420p"
        video.codec_context.gop_size = gop
        sound = container.add_stream(sound_codec, rate=48_000, layout="mono") if sound_codec else None
        fifo = av.AudioFifo()
        for index in range(SECONDS * RATE):
            bars = [220 if index >> bit & 1 else 30 for bit in range(8)]
            frame = av.VideoFrame.from_ndarray(
                np.repeat(np.tile(np.repeat(np.uint8(bars), 16), (32, 1))[..., None], 3, axis=2), format="rgb24"
            )
            frame.pts, frame.time_base = index + round(late_s * RATE), Fraction(1, RATE)
            container.mux(video.encode(frame))
            if sound:
                noise = 0.01 * np.random.default_rng(index).standard_normal((1, 48_000 // RATE)).astype(np.float32)
                piece = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
                piece.sample_rate = 48_000
                for converted in av.AudioResampler(sound.format.name, "mono", 48_000).resample(piece):
                    converted.pts = None
                    fifo.write(converted)
                for full in fifo.read_many(sound.codec_context.frame_size or 1024):
                    container.mux(sound.encode(full))
        container.mux(video.encode(None))
        if sound:
            container.mux(sound.encode(None))


def _number(picture_CHW: np.ndarray) -> int:
    bars = picture_CHW.mean(axis=(0, 1)).reshape(8, -1)[:, 4:-4].mean(axis=1)
    return sum(1 << bit for bit, level in enumerate(bars) if level > 125)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    for name, codec, sound_codec, more in FILMS:
        _write_film(folder / name, codec, sound_codec, **more)
    return {name: folder / name for name, *_ in FILMS}


def _shown(path: Path, start_s: float) -> list[tuple[int, float]]:
    """The number of each frame and its time from the file's start on, without the last two."""
    with open_media(str(path)) as container:
        stream = video_stream(container, str(path))
        return [
            (_number(frame.to_ndarray(format="rgb24").transpose(2, 0, 1)), start_s + time_s)
            for frame, time_s in timed_frames(container, stream, start_s=start_s)
        ]


@pytest.mark.parametrize("name", [name for name, *_ in FILMS])
def test_a_clip_inside_a_film_has_the_frames_that_a_decode_from_the_beginning_shows_there(films, name):
    whole = _shown(films[name], 0.0)
    assert [number for number, _ in whole] == list(range(SECONDS * RATE))
    for start_s in (0.7, 2.04, 3.5):
        part = _shown(films[name], start_s)
        current = max((number for number, time_s in whole if time_s <= start_s + 1e-3), default=0)
        assert part[0][0] == current
        assert [number for number, _ in part] == list(range(part[0][0], SECONDS * RATE))
        times_s = dict(whole)
        assert max(abs(time_s - times_s[number]) for number, time_s in part) < 1e-6


def test_frames_inside_a_broadcast_are_read_for_the_networks_as_well(films):
    frames = read_frames(str(films["cam.ts"]), [STREAM], start_s=0.7, duration_s=2.0)["numbers"].numpy()
    numbers = [_number(frame) for frame in frames]
    assert abs(numbers[0] - 17) <= 1
    assert abs(numbers[-1] - numbers[0] - 49) <= 1


@pytest.mark.parametrize("name", [name for name, _, sound, _ in FILMS if sound])
def test_a_clip_inside_a_film_has_the_sound_of_its_time(films, name):
    whole = read_audio(str(films[name]), sample_rate=48_000, duration_s=4.0).numpy()
    for start_s in (0.7, 2.04):
        part = read_audio(str(films[name]), sample_rate=48_000, start_s=start_s, duration_s=1.5).numpy()
        expected = whole[round(start_s * 48_000) :][: part.size]
        matches = {
            lag: float(np.dot(np.roll(part, lag), expected) / np.linalg.norm(part) / np.linalg.norm(expected))
            for lag in range(-240, 241)
        }
        best = max(matches, key=lambda lag: matches[lag])
        assert abs(best) <= 96  # some containers round to milliseconds
        assert matches[best] > 0.6  # AAC makes up noise of its own
        levels = [np.sqrt(np.mean(sound.reshape(15, -1) ** 2, axis=1)) for sound in (part, expected)]
        assert levels[0] == pytest.approx(levels[1], rel=0.3)
