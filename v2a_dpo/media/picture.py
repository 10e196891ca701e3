"""Pictures as players show them: upright and not mirrored, with square pixels, in BT.709 with standard range.

High dynamic range and wide gamut (BT.2100, BT.2020) become a table of colours that FFmpeg applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import av
import numpy as np
import torch
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from v2a_dpo.media.errors import PictureTooSmall

#: Other ratios come from damaged headers: the widest real pixels are 40 : 11.
_PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))
#: The shortest side in pixels that shows anything, and how many times longer the other side may be.
_SMALLEST_SIDE = 8
_LONGEST_SHAPE = 32
_HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
#: Linear BT.2020 to linear BT.709 (ITU-R BT.2087).
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
#: Diffuse white and the brightest highlight of graded pictures, in cd/m^2 (ITU-R BT.2408).
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
#: The scene light of diffuse white in HLG, whose highest value is 1 (75% signal).
_HLG_WHITE = 0.265
#: Up to this share of white nothing changes; what is brighter is compressed, so that highlights keep their detail.
_KNEE = 0.75
#: Nodes of the table in each of its three directions.
_NODES = 33


class Orientation(NamedTuple):
    """How a stored picture is shown: rows and columns exchanged first, then mirrored in either direction."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @staticmethod
    def of(frame: VideoFrame) -> Orientation:
        """The orientation in the frame's display matrix, at the nearest quarter turn."""
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
    """Makes RGB pictures of the frames of one video stream. Raises PictureTooSmall for pictures that show nothing."""

    def __init__(self, stream: VideoStream, path: str) -> None:
        self._path = path
        # Read here: frames may be used after their file is closed, when its stream must not be touched.
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self._pixel_aspect = aspect if _PIXEL_ASPECTS[0] <= aspect <= _PIXEL_ASPECTS[1] else Fraction(1)
        self._reformatter = VideoReformatter()
        #: Size and transfer of the pictures that the graph takes.
        self._kind: tuple[int, int, int] | None = None
        self._graph = Graph()

    def rgb(self, frame: VideoFrame) -> Tensor:
        """The upright picture, uint8 `[3, H, W]`, a value for each stored pixel.

        Its bytes stay in the order of pixels: torch computes the same as from three planes, in half the time.
        """
        self._check(frame)
        pixels = torch.from_numpy(self._bt709(frame).to_ndarray()).permute(2, 0, 1)
        return Orientation.of(frame).apply(pixels)

    def shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Height and width of the upright picture with square pixels; no side becomes shorter than it is stored."""
        self._check(frame)
        height = round(frame.height / min(self._pixel_aspect, Fraction(1)))
        width = round(frame.width * max(self._pixel_aspect, Fraction(1)))
        return (width, height) if Orientation.of(frame).transposed else (height, width)

    def _bt709(self, frame: VideoFrame) -> VideoFrame:
        """The frame in 8-bit RGB (`rgb24`), in BT.709 with standard range."""
        if frame.color_trc not in _HDR_TRANSFERS and frame.color_primaries != ColorPrimaries.BT2020:
            return self._reformatter.reformat(frame, format="rgb24")
        kind = frame.width, frame.height, frame.color_trc
        if kind != self._kind:
            self._graph, self._kind = _graph(*kind), kind
        self._graph.vpush(self._reformatter.reformat(frame, format="gbrp16le"))
        return self._graph.vpull()

    def _check(self, frame: VideoFrame) -> None:
        short, long = sorted((frame.width, frame.height))
        if short < _SMALLEST_SIDE or long > _LONGEST_SHAPE * short:
            raise PictureTooSmall(
                f"The picture is too small or too narrow: {frame.width} x {frame.height} pixels. At least "
                f"{_SMALLEST_SIDE} a side are needed, and one side at most {_LONGEST_SHAPE} times the other.",
                where=self._path,
                remedy="Leave the clip out.",
            )


def bt709_signal(signal_N3: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """The BT.709 signal in [0, 1] `[N, 3]` for RGB signals of BT.2020 primaries in [0, 1]; `transfer` is a ColorTrc.

    PQ stands for light of the screen, HLG for light of the scene; anything else is taken for BT.709's own curve.
    """
    if transfer == ColorTrc.SMPTE2084:
        light = _pq_nits(signal_N3) / _WHITE_NITS
        return np.asarray(_in_range(light @ _TO_BT709.T, _PEAK_NITS / _WHITE_NITS) ** (1 / 2.4))
    if transfer == ColorTrc.ARIB_STD_B67:
        light = _hlg_scene(signal_N3) / _HLG_WHITE
        return _bt709_curve(_in_range(light @ _TO_BT709.T, 1 / _HLG_WHITE))
    light = np.where(signal_N3 < 0.081, signal_N3 / 4.5, ((signal_N3 + 0.099) / 1.099) ** (1 / 0.45))
    return _bt709_curve(np.clip(light @ _TO_BT709.T, 0.0, 1.0))


def _graph(width: int, height: int, transfer: int) -> Graph:
    """A filter graph that takes 16-bit RGB through the table to 8 bits."""
    graph = Graph()
    with TemporaryDirectory() as folder:
        table = Path(folder) / "bt709.cube"
        table.write_text(_cube(transfer))
        source = graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("gbrp16le"), time_base=Fraction(1, av.time_base)
        )
        graph.link_nodes(
            source, graph.add("lut3d", file=str(table)), graph.add("format", "rgb24"), graph.add("buffersink")
        ).configure()
    return graph


def _cube(transfer: int) -> str:
    """The table in the format that Adobe defined for it; red changes fastest."""
    steps = np.linspace(0.0, 1.0, _NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    values = bt709_signal(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
    return f"LUT_3D_SIZE {_NODES}\n" + "\n".join("{:.5f} {:.5f} {:.5f}".format(*row) for row in values) + "\n"


def _pq_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cd/m^2 of a PQ signal (SMPTE ST 2084)."""
    root = signal ** (1 / 78.84375)
    return np.asarray(
        10_000.0 * (np.maximum(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    )


def _hlg_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of the scene of an HLG signal (ARIB STD-B67), both in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12))


def _bt709_curve(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099))


def _in_range(light_N3: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Light (1 = diffuse white, at most `peak`) in [0, 1]: scaled alike in all colours where one is too bright."""
    light_N3 = np.maximum(light_N3, 0.0)
    strongest = light_N3.max(axis=1, keepdims=True)
    over, most = np.maximum(strongest - _KNEE, 0.0) / (1 - _KNEE), (peak - _KNEE) / (1 - _KNEE)
    compressed = np.minimum(strongest, _KNEE) + (1 - _KNEE) * over * (1 + over / most**2) / (1 + over)
    return np.asarray(np.minimum(light_N3 * (compressed / np.maximum(strongest, 1e-9)), 1.0))
