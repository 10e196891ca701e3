"""Reading a clip's frames and sound from its file, in this process or in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from v2a_dpo.media.audio import read_audio
from v2a_dpo.media.errors import AudioMissing, AudioUnreadable, MediaError
from v2a_dpo.media.video import FrameStream, read_frames


@dataclass(frozen=True)
class ClipRequest:
    """What to read: frames of `streams` and, with `sample_rate`, the clip's own sound."""

    video: str
    start_s: float
    duration_s: float
    streams: Sequence[FrameStream]
    sample_rate: int | None = None
    #: Threads of the decoder; 0 as many as there are cores.
    threads: int = 0


@dataclass(frozen=True)
class ClipMedia:
    """A clip's content: stream name -> uint8 `[T, 3, height, width]`; mono float32 sound `[S]`, None without sound.

    NumPy arrays, since torch would send tensors from a worker through shared memory, which containers keep small.
    """

    frames: Mapping[str, np.ndarray]
    audio: np.ndarray | None


def read_clip(request: ClipRequest) -> ClipMedia | MediaError:
    """The clip's frames and sound, or the error of its picture; damaged sound counts as none."""
    if request.threads:
        torch.set_num_threads(request.threads)
    video, start_s, duration_s = request.video, request.start_s, request.duration_s
    audio: np.ndarray | None = None
    try:
        frames = read_frames(video, request.streams, start_s=start_s, duration_s=duration_s, threads=request.threads)
    except MediaError as error:
        return error
    if request.sample_rate is not None:
        with suppress(AudioMissing, AudioUnreadable):
            audio = read_audio(video, sample_rate=request.sample_rate, start_s=start_s, duration_s=duration_s).numpy()
    return ClipMedia({name: tensor.numpy() for name, tensor in frames.items()}, audio)
