"""Sound in and out: reading it from any container, resampling, and FLAC and WAV files."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import av
import numpy as np
import soundfile
import torch
import torchaudio
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from torch import Tensor

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.media.container import open_media, reason, start_time_s
from v2a_dpo.media.errors import AudioMissing, AudioUnreadable


def read_audio(path: str, *, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None) -> Tensor:
    """The sound of the file at `path` (local or URI) as mono float32 `[S]`: the mean of its channels at `sample_rate`.

    With `duration_s`, S = round(duration_s * sample_rate) exactly: silence stands where the sound starts later than the
    picture or ends before the clip does. Raises AudioMissing when there is no sound in that range at all,
    AudioUnreadable when it is damaged, VideoMissing and VideoUnreadable as for the picture.
    """
    with open_media(path) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise AudioMissing("This file has no sound.", where=path, remedy="Nothing to do if none is expected.")
        try:
            pieces = list(_mono_pieces(container, stream, start_s=start_s, duration_s=duration_s))
        except av.FFmpegError as error:
            raise AudioUnreadable(
                f"The sound is damaged: {reason(error)}.", where=path, remedy="Download or export the file again."
            ) from error
    if not pieces:
        raise AudioMissing(
            f"This file has no sound from second {start_s:g} on.", where=path, remedy="Start the clip earlier."
        )
    rate = pieces[0][1]
    first = max(0, round(pieces[0][0] * rate))
    samples = torch.from_numpy(np.concatenate([np.zeros(first, np.float32), *(piece for _, _, piece in pieces)]))
    resampled = resample(samples if duration_s is None else samples[: round(duration_s * rate)], rate, sample_rate)
    return resampled if duration_s is None else exactly(resampled, round(duration_s * sample_rate))


def resample(audio: Tensor, rate: int, wanted_rate: int) -> Tensor:
    """`audio` `[..., S]` at `rate` brought to `wanted_rate` by torchaudio's windowed sinc with its default settings."""
    return torchaudio.functional.resample(audio, rate, wanted_rate)


def exactly(audio: Tensor, num_samples: int) -> Tensor:
    """`audio` `[..., S]` cut, or filled up with silence, to `num_samples`."""
    cut = audio[..., :num_samples]
    return torch.nn.functional.pad(cut, (0, num_samples - cut.shape[-1]))


def _mono_pieces(
    container: InputContainer, stream: AudioStream, *, start_s: float, duration_s: float | None
) -> Iterator[tuple[float, int, np.ndarray]]:
    """Decoded pieces in order: seconds after `start_s`, sample rate, mono float32 samples; the first one is cut to the range."""
    origin_s = start_time_s(container) + start_s
    if start_s > 0:
        container.seek(int(origin_s * av.time_base))
    to_float = AudioResampler(format="fltp")
    for frame in container.decode(stream):
        time_s = (frame.time if frame.time is not None else origin_s) - origin_s
        if duration_s is not None and time_s >= duration_s:
            return
        for piece in to_float.resample(frame):
            mono = piece.to_ndarray().mean(axis=0, dtype=np.float32)
            late = max(0, round(-time_s * piece.sample_rate))
            if late < mono.size:
                yield max(0.0, time_s), piece.sample_rate, mono[late:]


def encode_flac(audio: Tensor, sample_rate: int) -> bytes:
    """Mono `audio` `[S]` as a 16-bit FLAC file; samples outside [-1, 1] are clipped."""
    return _encode(audio, sample_rate, "FLAC")


def decode_flac(content: bytes) -> tuple[Tensor, int]:
    """The mono float32 samples `[S]` and the sample rate of a FLAC (or WAV) file's bytes; raises AudioUnreadable."""
    try:
        samples, sample_rate = soundfile.read(BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioUnreadable(
            f"These are no readable samples: {error}", remedy="Run the stage that made them again."
        ) from error
    return torch.from_numpy(samples.mean(axis=1)), sample_rate


def write_wav(uri: str, audio: Tensor, sample_rate: int) -> None:
    """Puts mono `audio` `[S]` at `uri` as a 16-bit WAV file in one step; samples outside [-1, 1] are clipped."""
    write_atomically(uri, _encode(audio, sample_rate, "WAV"))


def _encode(audio: Tensor, sample_rate: int, container: str) -> bytes:
    sink = BytesIO()
    samples = audio.detach().cpu().float().clamp(-1.0, 1.0).numpy()
    soundfile.write(sink, samples, sample_rate, format=container, subtype="PCM_16")
    return sink.getvalue()
