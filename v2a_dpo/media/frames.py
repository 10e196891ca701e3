"""What frames a network asks of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FrameStream:
    """One stream of frames that a network wants, decoded to `[T, 3, height, width]` uint8.

    `fit` says how the picture reaches its size: `stretch` ignores the aspect ratio, `crop` scales the shorter side
    and cuts the centre (MMAudio's CLIP and Synchformer streams, in this order).
    """

    name: str
    rate: float
    height: int
    width: int
    fit: Literal["stretch", "crop"]

    def num_frames(self, duration_s: float) -> int:
        """Frames in `duration_s` seconds, rounded down; the tolerance absorbs binary fractions such as 0.28 x 25."""
        return int(duration_s * self.rate + 1e-6)
