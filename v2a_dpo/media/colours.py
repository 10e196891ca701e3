"""High dynamic range and wide gamut (BT.2100, BT.2020) brought to BT.709 with standard range, as players do.

FFmpeg applies the result as a table of colours; this file says what is in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

#: Linear BT.2020 to linear BT.709 (ITU-R BT.2087).
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
#: Diffuse white and the brightest highlight of graded pictures, in cd/m^2 (ITU-R BT.2408).
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
#: The scene light of diffuse white in HLG, whose highest value is 1 (75% signal).
_HLG_WHITE = 0.265
#: Up to this share of white nothing changes; what is brighter is compressed, so that highlights keep their drawing.
_KNEE = 0.75
#: Nodes of the table in each of its three directions.
_NODES = 33


def needs_conversion(frame: VideoFrame) -> bool:
    """Whether the frame's colours are HDR (PQ, HLG) or of the wide gamut of BT.2020."""
    return (
        frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67) or frame.color_primaries == ColorPrimaries.BT2020
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


@dataclass(frozen=True)
class _Kind:
    """What a table and its graph were made for."""

    width: int
    height: int
    transfer: int


class Bt709Converter:
    """Converts frames of one video; the table is made with the first one and again when the picture's kind changes."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._kind: _Kind | None = None
        self._graph = Graph()

    def rgb(self, frame: VideoFrame) -> VideoFrame:
        """The frame in 8-bit RGB (`rgb24`), in BT.709 with standard range."""
        kind = _Kind(frame.width, frame.height, frame.color_trc)
        if kind != self._kind:
            self._graph, self._kind = _graph(kind), kind
        deep = self._reformatter.reformat(frame, format="gbrp16le")
        self._graph.vpush(deep)
        return self._graph.vpull()


def _graph(kind: _Kind) -> Graph:
    """A filter graph that takes 16-bit RGB through the table to 8 bits."""
    graph = Graph()
    with TemporaryDirectory() as folder:
        table = Path(folder) / "bt709.cube"
        table.write_text(_cube(kind.transfer))
        source = graph.add_buffer(
            width=kind.width, height=kind.height, format=av.VideoFormat("gbrp16le"), time_base=Fraction(1, av.time_base)
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
    wanted = np.minimum(strongest, _KNEE) + (1 - _KNEE) * over * (1 + over / most**2) / (1 + over)
    return np.asarray(np.minimum(light_N3 * (wanted / np.maximum(strongest, 1e-9)), 1.0))
