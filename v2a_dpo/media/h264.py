"""How pictures are encoded as H.264: in named colours, and the same ones give the same bytes on the same machine."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

#: From `veryfast` on x264's lookahead gives small pictures other bytes in other processes.
_PRESET = "superfast"
_CLOCK = Fraction(1, 90_000)


def h264_options(crf: int) -> dict[str, str]:
    """The options of a `libx264` stream; `crf` 18 looks like the source, larger is smaller and coarser."""
    return {"preset": _PRESET, "crf": str(crf)}


class H264Pictures:
    """An H.264 stream in `sink` for pictures of one even size, with tags that tell players their colours."""

    def __init__(self, sink: OutputContainer, *, rate: Fraction, width: int, height: int, crf: int) -> None:
        # Without pictures that are decoded before they are shown, a film of uneven steps lasts as long as its pictures.
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
        """The packets that are left."""
        return self._packets(None)

    def _packets(self, frame: VideoFrame | None) -> list[Packet]:
        packets: list[Packet] = self.stream.encode(frame)
        for packet in packets:  # else an mp4 gives its last picture the duration of the one before
            packet.duration = self._interval
        return packets
