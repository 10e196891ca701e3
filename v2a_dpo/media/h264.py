"""How pictures are encoded as H.264: the same ones always give the same bytes on the same machine, in colours that are named."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

#: From `veryfast` on x264's lookahead gives small pictures other bytes in other processes.
_PRESET = "superfast"


def h264_options(crf: int) -> dict[str, str]:
    """The options of a `libx264` stream; `crf` 18 looks like the source, larger is smaller and coarser."""
    return {"preset": _PRESET, "crf": str(crf)}


class H264Pictures:
    """An H.264 stream in `sink` for pictures of one even size; players that keep to its tags show their very colours."""

    def __init__(self, sink: OutputContainer, *, rate: Fraction | int, width: int, height: int, crf: int) -> None:
        self.stream: VideoStream = sink.add_stream("libx264", rate=rate, options=h264_options(crf))
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        context = self.stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._reformatter = VideoReformatter()

    def encode(self, picture: Tensor, pts: int, time_base: Fraction) -> list[Packet]:
        """The packets that are ready once the uint8 RGB `picture` `[3, height, width]` is shown at `pts`."""
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = pts, time_base
        return self.stream.encode(frame)
