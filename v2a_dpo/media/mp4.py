"""mp4 files that browsers play: H.264 pictures, AAC sound, and generated sound under an original picture.

Pictures are encoded in named colours, and the same ones give the same bytes on the same machine.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.media.container import open_media, start_time_s
from v2a_dpo.media.errors import VideoUnreadable
from v2a_dpo.media.picture import PictureReader
from v2a_dpo.media.video import FrameStream, frame_rate_of, resize, shown_s, timed_frames, video_stream

#: From `veryfast` on x264's lookahead gives small pictures other bytes in other processes.
_PRESET = "superfast"
#: What every current browser shows in an mp4, from containers whose packets an mp4 can take over as they are.
_BROWSER_CODECS = frozenset({"h264", "av1", "vp9"})
_BROWSER_PIXELS = frozenset({"yuv420p", "yuvj420p"})
_COPYABLE_CONTAINERS = frozenset({"mov", "matroska"})
_CLOCK = Fraction(1, 90_000)
_AUDIO_CHUNK = 1024
#: FFmpeg's number for unnamed colours. Players take them for BT.709 from this height on, below for BT.601.
_UNNAMED_COLOURS, _HD_HEIGHT = 2, 720


def h264_options(crf: int) -> dict[str, str]:
    """The options of a `libx264` stream; `crf` 18 looks like the source, larger is smaller and coarser."""
    return {"preset": _PRESET, "crf": str(crf)}


class H264Pictures:
    """An H.264 stream in `sink` for pictures of one even size, tagged with their colours."""

    def __init__(self, sink: OutputContainer, *, rate: Fraction, width: int, height: int, crf: int) -> None:
        # Without B-frames a video with uneven steps lasts exactly as long as its pictures.
        options = h264_options(crf) | {"bf": "0"}
        self.stream: VideoStream = sink.add_stream("libx264", rate=rate, options=options)
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        context = self.stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.time_base = _CLOCK
        self._interval, self._pts = round(1 / (rate * _CLOCK)), -1
        self._reformatter = VideoReformatter()

    def encode(self, picture: Tensor, time_s: float) -> list[Packet]:
        """The packets that are ready once the uint8 RGB `picture` `[3, height, width]` is shown from `time_s` on."""
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        self._pts = max(self._pts + 1, round(time_s / _CLOCK))
        frame.pts, frame.time_base = self._pts, _CLOCK
        return self._packets(frame)

    def finish(self) -> list[Packet]:
        """The remaining packets."""
        return self._packets(None)

    def _packets(self, frame: VideoFrame | None) -> list[Packet]:
        packets: list[Packet] = self.stream.encode(frame)
        for packet in packets:  # else an mp4 gives its last picture the duration of the one before
            packet.duration = self._interval
        return packets


def mux(video_path: str, audio: Tensor, sample_rate: int, output: str, *, start_s: float = 0.0) -> None:
    """Writes to `output` an mp4 with the picture of `video_path` from `start_s` on under mono `audio` `[S]`.

    It is as long as the sound. The video stream is copied as it is when the clip starts with the file and browsers can
    show it, else encoded again as H.264, as players show it: upright, with square pixels, in BT.709; the sound becomes
    AAC. The file appears in one step. Raises VideoMissing, VideoUnreadable or PictureTooSmall.
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
                picture = _encoded_packets(sink, source, stream, video_path, start_s=start_s, duration_s=duration_s)
            first = next(picture, None)
            if first is None:
                raise VideoUnreadable(
                    f"This video has no frames from second {start_s:g} on.",
                    where=video_path,
                    remedy="Start the clip earlier.",
                )
            sound = sink.add_stream("aac", rate=sample_rate, layout="mono")
            for packet in chain([first], picture, encode_sound(sound, audio)):
                sink.mux(packet)
        write_atomically(output, target.read_bytes())


def _browsers_show(source: InputContainer, stream: VideoStream) -> bool:
    context = stream.codec_context
    copyable = not _COPYABLE_CONTAINERS.isdisjoint(source.format.name.split(","))
    return copyable and context.name in _BROWSER_CODECS and context.pix_fmt in _BROWSER_PIXELS


def _copied_packets(
    sink: OutputContainer, source: InputContainer, stream: VideoStream, *, duration_s: float
) -> Iterator[Packet]:
    """The packets of the first `duration_s` seconds in decoding order; what is shown later may be needed earlier."""
    copy = sink.add_stream_from_template(stream)
    time_base = stream.time_base or _CLOCK
    origin, end = round(start_time_s(source) / time_base), math.ceil(duration_s / time_base)
    packets: list[Packet] = []
    shown: list[int] = []
    for packet in source.demux(stream):
        if packet.pts is None:  # the demuxer ends with an empty packet
            continue
        if packet.dts is not None and packet.dts - origin >= end:
            break
        packets.append(packet)
        shown.append(packet.pts - origin)
    while shown and shown[-1] > end:  # nothing that is shown needs them
        shown.pop()
        packets.pop()
    for packet, pts, dts in zip(packets, shown, _decoding_times(shown), strict=True):
        packet.pts, packet.dts, packet.stream = pts, dts, copy
        if pts < end:
            packet.duration = min(packet.duration or 0, end - pts)
        yield packet


def _decoding_times(presentation_times: Sequence[int]) -> list[int]:
    """When packets in decoding order that are shown at `presentation_times` are decoded: rising, and never after that.

    Containers such as Matroska do not store it for all packets.
    """
    rising = sorted(presentation_times)
    delay = max((decoded - shown for decoded, shown in zip(rising, presentation_times, strict=True)), default=0)
    return [decoded - delay for decoded in rising]


def _encoded_packets(
    sink: OutputContainer, source: InputContainer, stream: VideoStream, path: str, *, start_s: float, duration_s: float
) -> Iterator[Packet]:
    """The clip's pictures as players show them, as H.264 at their own times; one that stays is repeated at its end.

    An odd row or column is cut, since 4:2:0 has none.
    """
    # Only a hint, and the last picture's duration, since each has its own time: still pictures have an absurd rate.
    rate = max(Fraction(frame_rate_of(stream) or 25).limit_denominator(1001), Fraction(10))
    reader = PictureReader(stream, path)
    encoder: H264Pictures | None = None
    picture: Tensor | None = None
    last_s = end_s = 0.0
    for frame, time_s in timed_frames(source, stream, start_s=start_s):
        if time_s >= duration_s:
            end_s = duration_s
            break
        if frame.colorspace == _UNNAMED_COLOURS and frame.height >= _HD_HEIGHT and not frame.format.is_rgb:
            frame.colorspace = Colorspace.ITU709
        picture = _even_picture(reader, frame, encoder.stream if encoder else None)
        if encoder is None:
            height, width = picture.shape[1:]
            encoder = H264Pictures(sink, rate=rate, width=width, height=height, crf=18)
        last_s, end_s = max(0.0, time_s), min(duration_s, time_s + shown_s(frame))
        yield from encoder.encode(picture, last_s)
    if encoder is not None and picture is not None:
        if end_s - last_s > 2 / rate:
            yield from encoder.encode(picture, end_s - 1 / rate)
        yield from encoder.finish()


def _even_picture(reader: PictureReader, frame: VideoFrame, encoder: VideoStream | None) -> Tensor:
    """The upright picture with square pixels, at the size of `encoder` where there is one already."""
    picture, shown_size = reader.rgb(frame), reader.shown_size(frame)
    even = shown_size[0] // 2 * 2, shown_size[1] // 2 * 2
    height, width = (encoder.height, encoder.width) if encoder else even
    if shown_size == picture.shape[1:] and (height, width) == even:
        return picture[:, :height, :width]
    return resize(picture, FrameStream("shown", 1.0, height, width, "stretch"))


def encode_sound(sound: AudioStream, audio: Tensor) -> Iterator[Packet]:
    """The packets of mono `audio` `[S]` at the rate of the stream `sound`; samples outside [-1, 1] are clipped."""
    samples = audio.detach().cpu().float().clamp(-1.0, 1.0).numpy()
    for start in range(0, samples.size, _AUDIO_CHUNK):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + _AUDIO_CHUNK], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sound.rate, start
        yield from sound.encode(frame)
    yield from sound.encode(None)
