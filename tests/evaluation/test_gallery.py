import base64
import io
import re

import av
import numpy as np
import torch

from v2a_dpo.evaluation.report.gallery import Track, choose_clips, clip_figure, preview_mp4
from v2a_dpo.tiny.world import DURATION_S, SAMPLE_RATE


def test_the_gallery_shows_the_best_the_worst_and_what_lies_between():
    change = np.array([0.3, -0.5, 0.0, 0.9, 0.1])
    assert choose_clips(change, count=3) == [3, 4, 1]
    assert choose_clips(change, count=50) == [3, 0, 4, 2, 1]
    assert choose_clips(change[:1], count=3) == [0]


def test_previews_are_small_silent_h264_of_the_whole_clip(loop):
    video = next(loop.root.joinpath("videos").glob("*.mp4"))
    content = preview_mp4(str(video), start_s=0.0, duration_s=DURATION_S, width=1280, height=720, frame_rate=50.0)
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (360, 202)
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(stream)) == 50


def pictures_of(figure):
    """The figure's pictures as arrays `[rows, columns, RGBA]`."""
    from matplotlib.image import imread

    return [
        imread(io.BytesIO(base64.b64decode(text))) for text in re.findall(r"data:image/png;base64,([^\"]+)", figure)
    ]


def test_a_click_is_bright_under_its_event_mark():
    click_s = 0.5
    audio = torch.zeros(SAMPLE_RATE)
    audio[int(click_s * SAMPLE_RATE)] = 1.0
    silence = Track(torch.zeros(SAMPLE_RATE), SAMPLE_RATE)
    tracks = {"real": Track(audio, SAMPLE_RATE), "base": silence, "aligned": silence}
    figure = clip_figure(tracks, clip_id="a&b", event_times_s=[click_s])
    brightness = [picture[..., :3].sum(axis=(0, 2)) for picture in pictures_of(figure)]
    assert abs(brightness[0].argmax() / brightness[0].size - click_s) < 0.03
    assert brightness[1].max() == brightness[1].min()
    assert re.search(r'class="event" x1="180.00"', figure)
    assert "a&amp;b" in figure


def test_tracks_of_different_rates_share_one_band_and_one_time_axis():
    tracks = {"real": Track(torch.randn(48_000), 48_000), "base": Track(torch.randn(16_000), 16_000)}
    first, second = pictures_of(clip_figure(tracks, clip_id="c", event_times_s=[]))
    assert first.shape == second.shape
