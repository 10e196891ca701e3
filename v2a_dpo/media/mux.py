"""Generated sound under the original picture, as an mp4 that browsers play."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.media.container import open_media, start_time_s
from v2a_dpo.media.errors import VideoUnreadable
from v2a_dpo.media.h264 import h264_options
from v2a_dpo.media.video import frame_rate_of, timed_frames, upright_picture, video_stream

#: What every current browser shows in an mp4, from containers whose packets an mp4 can take over as they are.
_BROWSER_CODECS = frozenset({"h264", "av1", "vp9"})
_BROWSER_PIXELS = frozenset({"yuv420p", "yuvj420p"})
_COPYABLE_CONTAINERS = frozenset({"mov", "matroska"})
_CLOCK = Fraction(1, 90_000)
_AUDIO_CHUNK = 1024


def mux(video_path: str, audio: Tensor, sample_rate: int, output: str, *, start_s: float = 0.0) -> None:
    """Puts at `output` an mp4 with the picture of `video_path` from `start_s` on, as long as mono `audio` `[S]` sounds.

    The video stream is copied as it is when the clip starts with the file and browsers can show it, else encoded anew
    as H.264; the sound becomes AAC. The file appears in one step. Raises VideoMissing or VideoUnreadable.
    """
    duration_s = audio.shape[-1] / sample_rate
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "muxed.mp4"
        # The index goes to the front of the file, so that a browser plays while it still loads.
        with (
            open_media(video_path) as source,
            av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as sink,
        ):
            stream = video_stream(source, video_path)
            if start_s == 0 and _browsers_show(source, stream):
                picture = _copied_packets(sink, source, stream, duration_s=duration_s)
            else:
                picture = _encoded_packets(sink, source, stream, start_s=start_s, duration_s=duration_s)
            first = next(picture, None)
            if first is None:
                raise VideoUnreadable(
                    f"This video has no frames from second {start_s:g} on.",
                    where=video_path,
                    remedy="Start the clip earlier.",
                )
            sound = sink.add_stream("aac", rate=sample_rate, layout="mono")
            for packet in chain([first], picture, _sound_packets(sound, audio)):
                sink.mux(packet)
        write_atomically(output, target.read_bytes())


def _browsers_show(source: InputContainer, stream: VideoStream) -> bool:
    context = stream.codec_context
    copyable = not _COPYABLE_CONTAINERS.isdisjoint(source.format.name.split(","))
    return copyable and context.name in _BROWSER_CODECS and context.pix_fmt in _BROWSER_PIXELS


def _copied_packets(
    sink: OutputContainer, source: InputContainer, stream: VideoStream, *, duration_s: float
) -> Iterator[Packet]:
    """The first `duration_s` seconds of packets in decoding order, whole: a later-shown one may be needed by an earlier."""
    copy = sink.add_stream_from_template(stream)
    time_base = stream.time_base or _CLOCK
    origin = round(start_time_s(source) / time_base)
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None:  # the demuxer ends with an empty packet
            continue
        packet.dts, packet.pts = packet.dts - origin, packet.pts - origin
        if packet.dts * time_base >= duration_s:
            return
        packet.stream = copy
        yield packet


def _encoded_packets(
    sink: OutputContainer, source: InputContainer, stream: VideoStream, *, start_s: float, duration_s: float
) -> Iterator[Packet]:
    """The upright frames of the clip as H.264 at their own times; an odd row or column is cut, since 4:2:0 has none."""
    rate = Fraction(frame_rate_of(stream) or 25).limit_denominator(1001)
    encoder = sink.add_stream("libx264", rate=rate, options=h264_options(crf=18))
    encoder.pix_fmt = "yuv420p"
    encoder.codec_context.time_base = _CLOCK
    converter = VideoReformatter()
    last_pts = -1
    for frame, time_s in timed_frames(source, stream, start_s=start_s):
        if time_s >= duration_s:
            break
        picture = upright_picture(frame, converter)
        height, width = (size // 2 * 2 for size in picture.shape[1:])
        if last_pts < 0:
            encoder.height, encoder.width = height, width
        upright = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(picture[:, :height, :width].permute(1, 2, 0).numpy()), format="rgb24"
        )
        last_pts = max(last_pts + 1, round(max(0.0, time_s) / _CLOCK))
        upright.pts, upright.time_base = last_pts, _CLOCK
        yield from encoder.encode(upright)
    if last_pts >= 0:
        yield from encoder.encode(None)


def _sound_packets(sound: AudioStream, audio: Tensor) -> Iterator[Packet]:
    samples = audio.detach().cpu().float().clamp(-1.0, 1.0).numpy()
    for start in range(0, samples.size, _AUDIO_CHUNK):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + _AUDIO_CHUNK], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sound.rate, start
        yield from sound.encode(frame)
    yield from sound.encode(None)
