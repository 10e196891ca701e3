"""The log-mel spectrogram shared by the tiny world's networks, and what undoes its frequency warping."""

from __future__ import annotations

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

from v2a_dpo.tiny.world import SAMPLE_RATE

NUM_MELS = 64
FFT_SIZE = 1024
#: Samples between frames: 128 frames in two seconds.
HOP = 250
NUM_BINS = FFT_SIZE // 2 + 1
#: Magnitudes are divided by the window's energy, so room noise stays near its own root mean square.
_FLOOR = 1e-3
_CENTRE, _SPREAD = -4.5, 2.5


@lru_cache(maxsize=4)
def window(device: torch.device) -> Tensor:
    """The periodic Hann window on `device`."""
    return torch.hann_window(FFT_SIZE, device=device)


@lru_cache(maxsize=4)
def mel_basis(device: torch.device) -> Tensor:
    """The triangular mel filters `[bins, mels]` from 40 Hz to 8 kHz, each with sum 1."""
    basis = torchaudio.functional.melscale_fbanks(
        NUM_BINS, 40.0, SAMPLE_RATE / 2, NUM_MELS, SAMPLE_RATE, norm=None, mel_scale="slaney"
    )
    # The lowest filters are narrower than a bin; each keeps at least its nearest one.
    empty = basis.sum(dim=0) < 1e-3
    centres = torch.linspace(40.0, 40.0 + 40.0 * NUM_MELS, NUM_MELS) * FFT_SIZE / SAMPLE_RATE
    for mel in empty.nonzero().flatten().tolist():
        basis[round(float(centres[mel])), mel] = 1.0
    return (basis / basis.sum(dim=0)).to(device)


def stft(audio_BS: Tensor) -> Tensor:
    """The complex spectrogram `[B, bins, S / HOP]`, frames centred on their hops, scaled by the window's energy."""
    spectrum = torch.stft(
        audio_BS, FFT_SIZE, HOP, window=window(audio_BS.device), center=True, pad_mode="reflect", return_complex=True
    )
    return spectrum[..., : audio_BS.shape[-1] // HOP] / window(audio_BS.device).square().sum().sqrt()


def log_mel(audio_BS: Tensor) -> Tensor:
    """The log-mel spectrogram `[B, 64, S / HOP]` of 16 kHz audio, scaled to about [-1, 2.6]."""
    mel = mel_basis(audio_BS.device).T @ stft(audio_BS).abs()
    return (mel.clamp_min(_FLOOR).log() - _CENTRE) / _SPREAD


def mel_magnitude(log_mel_BMT: Tensor) -> Tensor:
    """The linear mel magnitudes that `log_mel` scaled; what lay at the floor becomes zero."""
    magnitude = (log_mel_BMT * _SPREAD + _CENTRE).exp()
    return (magnitude - _FLOOR).clamp_min(0.0)


def mix_log_mel(first: Tensor, second: Tensor, second_gain_db: Tensor) -> Tensor:
    """The log-mel of two sounds together (powers add), the second amplified by `second_gain_db` `[B, 1, 1]`."""
    gain = second_gain_db * (torch.log(torch.tensor(10.0)) / 20.0)
    low, high = 2 * (first * _SPREAD + _CENTRE), 2 * (second * _SPREAD + _CENTRE + gain)
    return (0.5 * torch.logaddexp(low, high) - _CENTRE) / _SPREAD
