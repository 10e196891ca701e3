"""Sound in and out: reading it from any container, resampling, and FLAC and WAV files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
from v2a_dpo.media.container import decode_from, open_media, reason
from v2a_dpo.media.errors import AudioMissing, AudioUnreadable

#: Timestamps are rounded (Matroska to 1 ms) and jitter; a piece that starts this near the end of the last follows it.
_JITTER_S = 0.01
#: A higher rate comes from a damaged header; positions in samples would fill the memory.
_HIGHEST_RATE = 1_000_000
#: The most filter weights that torchaudio may compute for a pair of rates: it needs a kernel per phase between them.
_KERNEL_WEIGHTS = 10**6
#: How many weights are computed at once for other pairs.
_BLOCK_WEIGHTS = 2**20
#: torchaudio's defaults: zero crossings on each side of the windowed sinc, and the share of the band that it keeps.
_ZERO_CROSSINGS, _ROLLOFF = 6, 0.99


def read_audio(path: str, *, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None) -> Tensor:
    """The sound of the file at `path` (local or URI) as mono float32 `[S]`: the mean of its channels at `sample_rate`.

    Every piece is placed at its timestamp; gaps are silent. With `duration_s`, S =
    round(duration_s * sample_rate) exactly. Raises AudioMissing when there is no sound in that range at all,
    AudioUnreadable when it is damaged, VideoMissing and VideoUnreadable as for the picture.
    """
    with open_media(path) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise AudioMissing("This file has no sound.", where=path, remedy="Nothing to do if none is expected.")
        try:
            placed = _placed(_mono_pieces(path, container, stream, start_s=start_s, duration_s=duration_s))
        except MemoryError:  # FFmpeg's own is an FFmpegError, too: no fault of the clip
            raise
        except av.FFmpegError as error:
            raise _damaged(path, reason(error)) from error
    if placed is None:
        raise AudioMissing(
            f"This file has no sound from second {start_s:g} on.", where=path, remedy="Start the clip earlier."
        )
    samples, rate = placed
    resampled = resample(samples if duration_s is None else samples[: round(duration_s * rate)], rate, sample_rate)
    return resampled if duration_s is None else exactly(resampled, round(duration_s * sample_rate))


def resample(audio: Tensor, rate: int, target_rate: int) -> Tensor:
    """`audio` `[..., S]` at `rate` brought to `target_rate` by torchaudio's windowed sinc with its default settings.

    torchaudio keeps the weights of all phases, too many for a pair of rates such as 44,099 and 16,000 Hz; there the
    same weights are computed block by block.
    """
    common = math.gcd(rate, target_rate)
    if (rate // common) * (target_rate // common) <= _KERNEL_WEIGHTS:
        return torchaudio.functional.resample(audio, rate, target_rate)
    return _resample_in_blocks(audio, rate // common, target_rate // common)


def _resample_in_blocks(audio: Tensor, rate: int, target_rate: int) -> Tensor:
    """torchaudio's result for rates without a common divisor, with the weights of few samples at a time."""
    base = _ROLLOFF * min(rate, target_rate)
    width = math.ceil(_ZERO_CROSSINGS * rate / base)
    offsets = torch.arange(-width, width + 2, dtype=torch.float64, device=audio.device)
    padded = torch.nn.functional.pad(audio, (width, width + 2))
    total = math.ceil(audio.shape[-1] * target_rate / rate)
    weights_of_one = len(offsets) * max(1, audio.shape[:-1].numel())
    blocks = [audio[..., :0]]
    for start in range(0, total, block := max(1, _BLOCK_WEIGHTS // weights_of_one)):
        position = torch.arange(start, min(start + block, total), device=audio.device) * rate
        nearest = position // target_rate
        phase = (position - nearest * target_rate).double() / target_rate
        t = ((offsets - phase[:, None]) * (base / rate)).clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
        window = torch.cos(t * (math.pi / _ZERO_CROSSINGS / 2)) ** 2
        weights = (torch.sinc(t) * window * (base / rate)).to(audio.dtype)
        windows = padded.unfold(-1, len(offsets), 1)[..., nearest, :]
        blocks.append((windows * weights).sum(dim=-1))
    return torch.cat(blocks, dim=-1)


def exactly(audio: Tensor, num_samples: int) -> Tensor:
    """`audio` `[..., S]` cut, or filled up with silence, to `num_samples`."""
    cut = audio[..., :num_samples]
    return torch.nn.functional.pad(cut, (0, num_samples - cut.shape[-1]))


def _placed(pieces: Iterable[tuple[float, int, np.ndarray]]) -> tuple[Tensor, int] | None:
    """The samples of `pieces` from second 0 on and their rate; None where there are none.

    Each piece starts at its second; missing ones leave silence, and of two that overlap the first one counts.
    """
    placed: list[np.ndarray] = []
    end = rate = 0
    for time_s, rate, piece in pieces:
        gap = round(time_s * rate) - end
        if placed and abs(gap) <= _JITTER_S * rate:
            gap = 0
        new = piece[max(0, -gap) :]
        if new.size:
            placed += [np.zeros(max(0, gap), np.float32), new]
            end += max(0, gap) + new.size
    return (torch.from_numpy(np.concatenate(placed)), rate) if placed else None


def _mono_pieces(
    path: str, container: InputContainer, stream: AudioStream, *, start_s: float, duration_s: float | None
) -> Iterator[tuple[float, int, np.ndarray]]:
    """Decoded pieces in order: seconds after `start_s`, sample rate (of all pieces), mono float32 samples."""
    rate, converter, converted = 0, AudioResampler(), None
    next_s = -start_s  # in a file without timestamps, pieces follow each other from its beginning on
    for frame, stamp_s in decode_from(container, stream, start_s=start_s):
        if not 0 < frame.sample_rate <= _HIGHEST_RATE:
            raise _damaged(path, f"it declares {frame.sample_rate:,} samples per second")
        time_s = next_s if stamp_s is None else stamp_s
        next_s = time_s + frame.samples / frame.sample_rate
        if duration_s is not None and time_s >= duration_s:
            return
        rate = rate or frame.sample_rate
        if (kind := (frame.format.name, frame.layout.name, frame.sample_rate)) != converted:
            # Broadcasts change from stereo to 5.1 in mid-stream; a converter takes one kind of frames.
            converter, converted = AudioResampler(format="flt", rate=rate), kind
        for piece in converter.resample(frame):
            # Interleaved: PyAV ends the process where a frame has more than eight planes.
            channels = piece.to_ndarray().reshape(-1, piece.layout.nb_channels).T
            yield time_s, rate, np.ascontiguousarray(channels).mean(axis=0, dtype=np.float32)


def _damaged(path: str, reason: str) -> AudioUnreadable:
    return AudioUnreadable(f"The sound is damaged: {reason}.", where=path, remedy="Download or export the file again.")


def encode_flac(audio: Tensor, sample_rate: int) -> bytes:
    """Mono `audio` `[S]` as a 16-bit FLAC file; samples outside [-1, 1] are clipped."""
    return _encode(audio, sample_rate, "FLAC")


def decode_flac(content: bytes) -> tuple[Tensor, int]:
    """The mono float32 samples `[S]` and the sample rate of a FLAC (or WAV) file's bytes; raises AudioUnreadable."""
    try:
        samples, sample_rate = soundfile.read(BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioUnreadable(
            f"These samples cannot be read: {error}", remedy="Run the stage that writes them again."
        ) from error
    return torch.from_numpy(samples.mean(axis=1)), sample_rate


def write_wav(uri: str, audio: Tensor, sample_rate: int) -> None:
    """Writes mono `audio` `[S]` to `uri` as a 16-bit WAV file in one step; samples outside [-1, 1] are clipped."""
    write_atomically(uri, _encode(audio, sample_rate, "WAV"))


def _encode(audio: Tensor, sample_rate: int, container: str) -> bytes:
    sink = BytesIO()
    samples = audio.detach().cpu().float().clamp(-1.0, 1.0).numpy()
    soundfile.write(sink, samples, sample_rate, format=container, subtype="PCM_16")
    return sink.getvalue()
