"""The mp4 that people watch: it plays from its first picture, as long as the sound, whatever the file was."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from v2a_dpo.media.mp4 import mux
from v2a_dpo.media.video import FrameStream, read_frames

SMALL = FrameStream("small", 25.0, 32, 32, "stretch")


def _levels(path: Path, duration_s: float) -> list[float]:
    frames = read_frames(str(path), [SMALL], duration_s=duration_s)["small"]
    return frames[:, :, 16:, 16:].float().mean(dim=(1, 2, 3)).tolist()


def _mux(source: Path, target: Path, *, duration_s: float, start_s: float = 0.0) -> Path:
    mux(str(source), torch.zeros(round(16_000 * duration_s)), 16_000, str(target), start_s=start_s)
    return target


def _copies(source: Path, target: Path) -> bool:
    """Whether the packets of picture are those of the source."""
    with av.open(str(source)) as before, av.open(str(target)) as after:
        first, copied = (bytes(next(container.demux(video=0))) for container in (before, after))
        return copied[-200:] == first[-200:]


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.mov"])
def test_a_film_with_reordered_frames_is_copied_and_plays_from_its_first_picture(tmp_path, write_video, name):
    source = write_video(tmp_path / name, duration_s=2.0)
    output = _mux(source, tmp_path / "out.mp4", duration_s=1.4)
    assert _copies(source, output)
    assert _levels(output, 1.4) == _levels(source, 1.4)
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        times = [packet.dts for packet in packets]
        assert any(packet.pts < earlier.pts for earlier, packet in pairwise(packets))
    assert packets[0].is_keyframe
    assert times == sorted(set(times))
    assert all(packet.dts <= packet.pts for packet in packets)
    assert min(packet.pts for packet in packets) == 0
    assert max(float(packet.pts * packet.time_base) for packet in packets) < 1.4 + 0.13


@pytest.mark.parametrize("name", ["film.mkv", "film.ts", "film.avi"])
def test_a_clip_inside_a_film_begins_with_its_first_picture(tmp_path, write_video, name):
    source = write_video(tmp_path / name, duration_s=3.0)
    output = _mux(source, tmp_path / "out.mp4", start_s=1.2, duration_s=1.0)
    levels = _levels(output, 1.0)
    assert levels[0] == pytest.approx(20 + 30, abs=1.5)
    assert levels[-1] == pytest.approx(20 + 54, abs=1.5)


def test_wide_pixels_of_a_copied_film_stay_wide(tmp_path):
    source = tmp_path / "wide.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    output = _mux(source, tmp_path / "out.mp4", duration_s=1.0)
    with av.open(str(output)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2


def _slides(path: Path, codec: str, times_s: list[float], last_s: float) -> Path:
    """Pictures of rising brightness from `times_s` on, the last for `last_s` seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "0"} if codec == "libx264" else {"b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for index, time_s in enumerate(times_s):
            picture = np.full((48, 64, 3), 40 + 40 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets[-1].duration = round(last_s * 1000)
        container.mux(packets)
    return path


@pytest.mark.parametrize(("name", "codec"), [("slides.mp4", "libx264"), ("slides.mov", "mpeg4")])
def test_a_last_picture_that_stays_stays_under_the_sound(tmp_path, name, codec):
    source = _slides(tmp_path / name, codec, [0.0, 0.4], 9.0)
    output = _mux(source, tmp_path / "out.mp4", duration_s=3.0)
    levels = _levels(output, 3.0)
    assert levels == pytest.approx([40] * 10 + [80] * 65, abs=4)
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(3.0, abs=0.05)
