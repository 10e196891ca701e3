"""Pictures as players show them: upright and not mirrored, with square pixels, in BT.709 with standard range."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from v2a_dpo.media.colours import Bt709Converter, needs_conversion
from v2a_dpo.media.errors import PictureTooSmall

#: A header that says otherwise is damaged: the widest real pixels are 40 : 11.
_PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))
#: Pixels a side below which there is nothing to see, and how many times longer the other side may be.
_SMALLEST_SIDE = 8
_LONGEST_SHAPE = 32


class Orientation(NamedTuple):
    """How a stored picture is shown: rows and columns exchanged first, then mirrored in either direction."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @staticmethod
    def of(frame: VideoFrame) -> Orientation:
        """What the frame's display matrix says, at the nearest quarter turn."""
        matrix = cast(Mapping[Type, Any], frame.side_data).get(Type.DISPLAYMATRIX)
        if matrix is None:
            return Orientation()
        # ISO 14496-12: a stored point (p, q) is shown at (a p + c q + x, b p + d q + y).
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, count=5).astype(np.int64)
        if abs(a) + abs(d) < abs(b) + abs(c):
            return Orientation(True, bool(c < 0), bool(b < 0))
        return Orientation(False, bool(a < 0), bool(d < 0))

    def apply(self, picture: Tensor) -> Tensor:
        """The picture `[C, H, W]` as it is shown; a view where that is possible."""
        if self.transposed:
            picture = picture.transpose(1, 2)
        dims = [dim for dim, mirrored in ((2, self.left_right), (1, self.top_bottom)) if mirrored]
        return picture.flip(dims) if dims else picture


class PictureReader:
    """Makes RGB pictures of the frames of one video stream. Raises PictureTooSmall for what nobody could see."""

    def __init__(self, stream: VideoStream, path: str) -> None:
        self._path = path
        # Asked for once: frames may be read after their file is closed, and a closed file's stream must not be touched.
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self._pixel_aspect = aspect if _PIXEL_ASPECTS[0] <= aspect <= _PIXEL_ASPECTS[1] else Fraction(1)
        self._reformatter = VideoReformatter()
        self._bt709 = Bt709Converter()

    def rgb(self, frame: VideoFrame) -> Tensor:
        """The upright picture, uint8 `[3, H, W]`, a value for each stored pixel.

        Its bytes stay in the order of pixels: torch makes the same of them as of three planes, in half the time.
        """
        self._check(frame)
        convert = self._bt709.rgb if needs_conversion(frame) else self._plain_rgb
        pixels = torch.from_numpy(convert(frame).to_ndarray()).permute(2, 0, 1)
        return Orientation.of(frame).apply(pixels)

    def shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Height and width of the upright picture with square pixels; no side becomes shorter than it is stored."""
        self._check(frame)
        height = round(frame.height / min(self._pixel_aspect, Fraction(1)))
        width = round(frame.width * max(self._pixel_aspect, Fraction(1)))
        return (width, height) if Orientation.of(frame).transposed else (height, width)

    def _plain_rgb(self, frame: VideoFrame) -> VideoFrame:
        return self._reformatter.reformat(frame, format="rgb24")

    def _check(self, frame: VideoFrame) -> None:
        short, long = sorted((frame.width, frame.height))
        if short < _SMALLEST_SIDE or long > _LONGEST_SHAPE * short:
            raise PictureTooSmall(
                f"The picture is too small or too narrow: {frame.width} x {frame.height} pixels. At least "
                f"{_SMALLEST_SIDE} a side are needed, and one side at most {_LONGEST_SHAPE} times the other.",
                where=self._path,
                remedy="Leave the clip out.",
            )
