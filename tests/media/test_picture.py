"""What players show of a picture: which way up, how wide, in which colours, and what is too small to be seen."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from v2a_dpo.media.clip_reading import ClipRequest, read_clip
from v2a_dpo.media.container import open_media
from v2a_dpo.media.errors import PictureTooSmall
from v2a_dpo.media.mp4 import mux
from v2a_dpo.media.picture import PictureReader, bt709_signal
from v2a_dpo.media.video import FrameStream, probe, read_frames

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
PAINTED = [RED, GREEN, BLUE, YELLOW]
NAMES = {RED: "R", GREEN: "G", BLUE: "B", YELLOW: "Y"}
#: Counter-clockwise turn, and mirrored from left to right after it; then the corners in reading order.
ORIENTATIONS = [
    (0, False, "RGBY"),
    (90, False, "GYRB"),
    (180, False, "YBGR"),
    (270, False, "BRYG"),
    (0, True, "GRYB"),
    (90, True, "YGBR"),
    (180, True, "BYRG"),
    (270, True, "RBGY"),
]


def _corners(height: int = 48, width: int = 64) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    for colour, (row, column) in zip(PAINTED, [(0, 0), (0, left), (top, 0), (top, left)], strict=True):
        picture[row : row + top, column : column + left] = colour
    return picture


def _film(
    path: Path,
    picture: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    prepare: Callable[[av.video.stream.VideoStream], None] = lambda stream: None,
    **colours: int,
) -> Path:
    """Ten frames of one picture, a tenth of a second each; `colours` name and make the matrix and range (`dst_...`)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "4"} if codec == "libx264" else {"b": "4M"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pixels
        prepare(stream)
        for _ in range(10):
            kind = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
            frame = av.VideoFrame.from_ndarray(picture, format=kind)
            container.mux(stream.encode(VideoReformatter().reformat(frame, format=pixels, **colours)))
        container.mux(stream.encode(None))
    return path


def _shown(path: Path) -> tuple[int, int, np.ndarray]:
    """The size that is told, and a frame as networks get it when nothing is cut off."""
    facts = probe(str(path))
    stream = FrameStream("shown", 10.0, facts.height, facts.width, "crop")
    return facts.width, facts.height, read_frames(str(path), [stream], duration_s=0.9)["shown"][5].numpy()


def _names(picture_CHW: np.ndarray) -> str:
    _, height, width = picture_CHW.shape
    spots = [picture_CHW[:, y, x] for y in (height // 6, -height // 6) for x in (width // 6, -width // 6)]
    return "".join(NAMES[min(PAINTED, key=lambda colour: np.abs(spot - np.float32(colour)).sum())] for spot in spots)


def _silence(seconds: float = 0.9) -> torch.Tensor:
    return torch.zeros(round(16_000 * seconds))


@pytest.mark.parametrize(("degrees", "mirrored", "corners"), ORIENTATIONS)
def test_each_of_the_eight_orientations_is_shown_as_players_show_it(tmp_path, degrees, mirrored, corners):
    path = _film(
        tmp_path / "film.mov",
        _corners(),
        codec="mpeg4",
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    width, height, picture = _shown(path)
    assert (width, height) == ((48, 64) if degrees % 180 else (64, 48))
    assert _names(picture) == corners
    mux(str(path), _silence(), 16_000, str(tmp_path / "encoded.mp4"))
    assert _shown(tmp_path / "encoded.mp4")[:2] == (width, height)
    assert _names(_shown(tmp_path / "encoded.mp4")[2]) == corners


@pytest.mark.parametrize(
    ("name", "codec", "aspect", "shown"),
    [
        ("disc.mpg", "mpeg2video", Fraction(4, 3), (85, 48)),
        ("wide.mov", "mpeg4", Fraction(2), (128, 48)),
        ("high.mkv", "mpeg4", Fraction(8, 9), (64, 54)),
        ("damaged.mov", "mpeg4", Fraction(200), (64, 48)),
    ],
)
def test_pixels_that_are_not_square_are_stretched(tmp_path, name, codec, aspect, shown):
    def prepare(stream: av.video.stream.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    path = _film(tmp_path / name, _corners(), codec=codec, prepare=prepare)
    width, height, picture = _shown(path)
    assert (width, height) == shown
    assert _names(picture) == "RGBY"
    mux(str(path), _silence(), 16_000, str(tmp_path / "encoded.mp4"))
    encoded = probe(str(tmp_path / "encoded.mp4"))
    assert (encoded.width, encoded.height) == (width // 2 * 2, height)


def test_the_middle_is_cut_from_the_stretched_picture(tmp_path):
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:, 20:44] = 220  # in the middle; as wide as high once the pixels are twice as wide

    def prepare(stream: av.video.stream.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    path = _film(tmp_path / "wide.mov", picture, codec="mpeg4", prepare=prepare)
    frame = read_frames(str(path), [FrameStream("cut", 10.0, 32, 32, "crop")], duration_s=0.9)["cut"][5].float()
    assert float(frame[:, :, 1:-1].min()) > 190


def test_a_frame_is_read_when_its_file_is_closed_already(tmp_path):
    def prepare(stream: av.video.stream.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    path = str(_film(tmp_path / "wide.mov", _corners(), codec="mpeg4", prepare=prepare))
    for _ in range(20):  # what a closed file held is given to others
        with open_media(path) as container:
            stream = container.streams.video[0]
            reader = PictureReader(stream, path)
            frame = next(container.decode(stream))
        with open_media(path):
            assert reader.shown_size(frame) == (48, 128)
            assert reader.rgb(frame).shape == (3, 48, 64)


def test_a_phone_clip_turned_and_with_wide_pixels_is_both(tmp_path):
    def prepare(stream: av.video.stream.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(270)

    path = _film(tmp_path / "film.mov", _corners(), codec="mpeg4", prepare=prepare)
    assert _shown(path)[:2] == (48, 128)


def _hdr(picture: np.ndarray, transfer: ColorTrc) -> np.ndarray:
    """The picture as a camera that records HLG, or a grader who works in PQ at 203 cd/m^2 for white, would store it."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    signal = picture / 255
    if transfer == ColorTrc.ARIB_STD_B67:
        light = np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45)) @ to_bt2020.T * 0.265
        high = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
        stored = np.where(light <= 1 / 12, np.sqrt(3 * light), high)
    else:
        power = (signal**2.4 @ to_bt2020.T * 203 / 10_000) ** 0.1593017578125
        stored = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return (stored.clip(0, 1) * 65535).round().astype(np.uint16)


@pytest.mark.parametrize("transfer", [ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084])
def test_high_dynamic_range_is_seen_and_encoded_in_the_colours_of_an_ordinary_screen(tmp_path, transfer):
    def prepare(stream: av.video.stream.VideoStream) -> None:
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, transfer

    path = _film(
        tmp_path / "phone.mov",
        _hdr(_corners(), transfer),
        pixels="yuv420p10le",
        prepare=prepare,
        dst_colorspace=Colorspace.BT2020,
        dst_color_range=ColorRange.MPEG,
    )
    mux(str(path), _silence(), 16_000, str(tmp_path / "encoded.mp4"))
    for film in (path, tmp_path / "encoded.mp4"):
        picture = _shown(film)[2]
        assert np.abs(picture[:, 12, 16] - np.float32(RED)).max() < 14
        assert np.abs(picture[:, -12, -16] - np.float32(YELLOW)).max() < 14
    assert _tags(tmp_path / "encoded.mp4") == (Colorspace.ITU709, ColorRange.MPEG, ColorPrimaries.BT709, ColorTrc.BT709)


@pytest.mark.parametrize("transfer", [ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084])
def test_highlights_keep_their_drawing_and_greys_stay_grey(transfer):
    ramp = np.repeat(np.linspace(0, 1, 101)[:, None], 3, axis=1)
    shown = bt709_signal(ramp, transfer)
    assert np.abs(shown - shown[:, :1]).max() < 1e-3
    brightest = 76 if transfer == ColorTrc.SMPTE2084 else 101  # 1,000 cd/m^2 are 75% of PQ
    assert np.diff(shown[5:brightest, 0]).min() > 0
    assert shown[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert shown[-1, 0] == pytest.approx(1.0, abs=1e-3)
    white = 75 if transfer == ColorTrc.ARIB_STD_B67 else 58
    assert 0.9 < shown[white, 0] < 0.97


def test_wide_gamut_without_high_dynamic_range_is_converted_too():
    assert bt709_signal(np.array([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]), ColorTrc.BT2020_10) == pytest.approx(
        np.array([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]), abs=1e-3
    )
    green = bt709_signal(np.array([[0.3, 0.7, 0.3]]), ColorTrc.BT2020_10)[0]
    assert green[1] > 0.7
    assert green[0] < 0.3


@pytest.mark.parametrize("named", [True, False])
def test_hd_pictures_that_are_encoded_anew_keep_the_colours_that_players_show(tmp_path, named):
    def prepare(stream: av.video.stream.VideoStream) -> None:
        if named:
            stream.codec_context.colorspace = Colorspace.ITU709

    # Without a name players take HD for BT.709.
    path = _film(
        tmp_path / "hd.avi" if not named else tmp_path / "hd.ts",
        _corners(720, 960),
        prepare=prepare,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
    )
    mux(str(path), _silence(), 16_000, str(tmp_path / "encoded.mp4"))
    assert _tags(tmp_path / "encoded.mp4") == (Colorspace.ITU709, ColorRange.MPEG, ColorPrimaries.BT709, ColorTrc.BT709)
    picture = _shown(tmp_path / "encoded.mp4")[2]
    assert np.abs(picture[:, 100, 100] - np.float32(RED)).max() < 6


def _tags(path: Path) -> tuple[int, int, int, int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.colorspace, context.color_range, context.color_primaries, context.color_trc


@pytest.mark.parametrize(("height", "width"), [(1, 160), (4, 64), (16, 1024)])
def test_a_picture_that_shows_nothing_is_a_fault_of_its_clip(tmp_path, height, width):
    path = str(_film(tmp_path / "row.mkv", np.zeros((height, width, 3), np.uint8), codec="ffv1", pixels="bgr0"))
    stream = FrameStream("shown", 10.0, 16, 16, "crop")
    outcome = read_clip(ClipRequest(path, 0.0, 0.5, [stream]))
    assert isinstance(outcome, PictureTooSmall)
    assert f"{width} x {height} pixels" in str(outcome)
    for use in (lambda: probe(path), lambda: mux(path, _silence(0.5), 16_000, str(tmp_path / "out.mp4"))):
        with pytest.raises(PictureTooSmall):
            use()
