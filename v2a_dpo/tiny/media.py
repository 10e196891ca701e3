"""Clips of the tiny world as real files (H.264 and AAC in mp4) and, for pre-training, as arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.media.mp4 import encode_sound, h264_options
from v2a_dpo.tiny.render import NETWORK_SIZE, VIDEO_SIZE, render_frames
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import FRAME_RATE, SAMPLE_RATE, ClipEvents


def write_clip_mp4(path: Path, events: ClipEvents, *, size: int = VIDEO_SIZE) -> None:
    """Writes the clip in one step as an mp4 of `size` x `size` pixels at 25 fps with mono 16 kHz sound."""
    with av.open(content := BytesIO(), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=h264_options(crf=18))
        video.width, video.height, video.pix_fmt = size, size, "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 96_000
        for picture in render_frames(events, size=size):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        container.mux(list(encode_sound(audio, torch.from_numpy(render_audio(events)))))
    write_atomically(path, content.getvalue())


@dataclass(frozen=True)
class ClipArrays:
    """Clips in memory: `frames` uint8 at 25 fps and 32 pixels, `audio` at 16 kHz, with their clip_events."""

    clip_events: Sequence[ClipEvents]
    frames: Tensor
    audio: Tensor


def render_arrays(clip_events: Sequence[ClipEvents]) -> ClipArrays:
    """The clips rendered straight at the networks' picture size, without a file or a codec between."""
    audio = np.stack([render_audio(events) for events in clip_events])
    return ClipArrays(clip_events, network_frames(clip_events), torch.from_numpy(audio))


def network_frames(clip_events: Sequence[ClipEvents]) -> Tensor:
    """The clips' pictures at the networks' size: uint8 `[N, T, 3, 32, 32]` at 25 fps."""
    frames = np.stack([render_frames(events, size=NETWORK_SIZE) for events in clip_events])
    return torch.from_numpy(frames).permute(0, 1, 4, 2, 3).contiguous()
