"""The log-mel spectrogram of the tiny world's networks, and its latent codec.

The codec is a PCA of mel patches one way and phase reconstruction the other way; nothing is trained by gradient.
Letters in tensor names: B batch, S samples, M mel bands, T mel frames, F frequency bins, L latent tokens, C channels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

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


def log_mel(audio_BS: Tensor) -> Tensor:
    """The log-mel spectrogram `[B, 64, S / HOP]` of 16 kHz audio, frames centred on their hops, in about [-1, 2.6]."""
    taper = window(audio_BS.device)
    spectrum = torch.stft(audio_BS, FFT_SIZE, HOP, window=taper, center=True, pad_mode="reflect", return_complex=True)
    spectrum = spectrum[..., : audio_BS.shape[-1] // HOP] / taper.square().sum().sqrt()
    mel = mel_basis(audio_BS.device).T @ spectrum.abs()
    return (mel.clamp_min(_FLOOR).log() - _CENTRE) / _SPREAD


def mel_magnitude(log_mel_BMT: Tensor) -> Tensor:
    """The linear mel magnitudes that `log_mel` scaled; values at its floor become zero."""
    magnitude = (log_mel_BMT * _SPREAD + _CENTRE).exp()
    return (magnitude - _FLOOR).clamp_min(0.0)


def mix_log_mel(first: Tensor, second: Tensor, second_gain_db: Tensor) -> Tensor:
    """The log-mel of two sounds together (powers add), the second amplified by `second_gain_db` `[B, 1, 1]`."""
    gain = second_gain_db * (torch.log(torch.tensor(10.0)) / 20.0)
    low, high = 2 * (first * _SPREAD + _CENTRE), 2 * (second * _SPREAD + _CENTRE + gain)
    return (0.5 * torch.logaddexp(low, high) - _CENTRE) / _SPREAD


#: Mel frames in one latent token: 64 tokens in two seconds.
PATCH_FRAMES = 2
LATENT_CHANNELS = 20
SAMPLES_PER_TOKEN = PATCH_FRAMES * HOP
#: Components are divided by this power of their standard deviation: the first keep some of their greater weight.
_WHITENING = 0.7
_PHASE_ITERATIONS = 2
_MOMENTUM = 0.9


class PatchCodec(nn.Module):
    """Encodes 16 kHz audio to latents `[B, L, 20]`, 32 tokens per second, and decodes them to waveforms."""

    sample_rate = SAMPLE_RATE
    latent_channels = LATENT_CHANNELS
    mean: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(NUM_MELS * PATCH_FRAMES))
        self.register_buffer("components", torch.zeros(NUM_MELS * PATCH_FRAMES, LATENT_CHANNELS))
        self.register_buffer("scale", torch.ones(LATENT_CHANNELS))

    @staticmethod
    def fit(audio_BS: Tensor) -> PatchCodec:
        """The codec whose components explain most of the mel patches of `audio_BS`."""
        codec = PatchCodec()
        patches = _patches(log_mel(audio_BS)).flatten(0, 1).double()
        codec.mean = patches.mean(dim=0).float()
        eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(patches.T))
        leading = eigenvectors[:, -LATENT_CHANNELS:].flip(1)
        # An eigenvector's sign is arbitrary; the largest entry is made positive so that a fit is reproducible.
        signs = leading.gather(0, leading.abs().argmax(dim=0, keepdim=True)).sign()
        codec.components = (leading * signs).float().contiguous()
        codec.scale = eigenvalues[-LATENT_CHANNELS:].flip(0).clamp_min(1e-8).pow(_WHITENING / 2).float()
        return codec

    def encode(self, audio_BS: Tensor) -> Tensor:
        """Latents `[B, S / 500, 20]` of mono audio in [-1, 1]; a last part shorter than a token is cut off."""
        whole = audio_BS.shape[-1] // SAMPLES_PER_TOKEN * SAMPLES_PER_TOKEN
        return (_patches(log_mel(audio_BS[:, :whole])) - self.mean) @ self.components / self.scale

    def decode(self, latents_BLC: Tensor) -> Tensor:
        """Mono audio `[B, 500 L]` in [-1, 1]; the same latents always give the same samples."""
        # Phases magnify every rounding: always in float32.
        with torch.autocast(latents_BLC.device.type, enabled=False):
            patches = (latents_BLC.float() * self.scale) @ self.components.T + self.mean
            mel_BMT = patches.unflatten(2, (PATCH_FRAMES, NUM_MELS)).flatten(1, 2).transpose(1, 2)
            return invert_log_mel(mel_BMT).clamp(-1.0, 1.0)


def _patches(mel_BMT: Tensor) -> Tensor:
    """Neighbouring mel frames side by side, `[B, T / 2, 2 * 64]`."""
    return mel_BMT.transpose(1, 2).unflatten(1, (-1, PATCH_FRAMES)).flatten(2)


def linear_magnitude(log_mel_BMT: Tensor) -> Tensor:
    """The non-negative spectrum `[B, bins, T]` whose mel bins are nearly the given ones: a spread and two
    corrections."""
    basis = mel_basis(log_mel_BMT.device)
    mel = mel_magnitude(log_mel_BMT)
    spread = basis / basis.sum(dim=1, keepdim=True).clamp_min(1e-6)
    magnitude = spread @ mel
    for _ in range(2):
        magnitude = magnitude * (spread @ (mel / (basis.T @ magnitude).clamp_min(1e-5)))
    return magnitude


def invert_log_mel(log_mel_BMT: Tensor, *, iterations: int = _PHASE_ITERATIONS) -> Tensor:
    """Audio `[B, HOP * T]` with about the given log-mel: accelerated Griffin-Lim (Perraudin et al. 2013) from phases
    that advance with each spectral peak's own frequency (Beauregard et al. 2015), so that few iterations suffice."""
    magnitude = linear_magnitude(log_mel_BMT)
    taper = window(magnitude.device)
    energy = taper.square().sum().sqrt()
    length = magnitude.shape[-1] * HOP
    # torch.istft needs the frame centred on the end, too.
    magnitude = torch.cat([magnitude, magnitude[..., -1:]], dim=-1) * energy
    estimate = torch.polar(magnitude, peak_phases(magnitude))
    previous = torch.zeros_like(estimate)
    for _ in range(iterations):
        audio = torch.istft(estimate, FFT_SIZE, HOP, window=taper, length=length)
        rebuilt = torch.stft(audio, FFT_SIZE, HOP, window=taper, return_complex=True)
        accelerated = rebuilt + _MOMENTUM * (rebuilt - previous)
        previous = rebuilt
        estimate = accelerated * (magnitude / accelerated.abs().clamp_min(1e-8))
    return torch.istft(estimate, FFT_SIZE, HOP, window=taper, length=length)


def peak_phases(magnitude_BFT: Tensor) -> Tensor:
    """Phases `[B, bins, T]`: each bin follows its nearest spectral peak, whose frequency a parabola through three bins
    gives."""
    log_magnitude = magnitude_BFT.clamp_min(1e-6).log()
    left, centre, right = log_magnitude[:, :-2], log_magnitude[:, 1:-1], log_magnitude[:, 2:]
    curvature = (left - 2 * centre + right).clamp_max(-1e-3)
    offset = (0.5 * (left - right) / curvature).clamp(-0.5, 0.5)
    is_peak = functional.pad((centre > left) & (centre >= right), (0, 0, 1, 1))
    bins = torch.arange(NUM_BINS, device=magnitude_BFT.device, dtype=magnitude_BFT.dtype)
    frequency = bins[None, :, None] + functional.pad(offset, (0, 0, 1, 1))
    # The index of the nearest peak: the last one below or the next one above, whichever is closer.
    far = 2.0 * NUM_BINS
    below = torch.where(is_peak, bins[None, :, None], torch.tensor(-far)).cummax(dim=1).values
    above = torch.where(is_peak, bins[None, :, None], torch.tensor(far)).flip(1).cummin(dim=1).values.flip(1)
    nearest = torch.where(bins[None, :, None] - below <= above - bins[None, :, None], below, above)
    nearest = nearest.clamp(0, NUM_BINS - 1).long()
    advance = 2 * torch.pi * HOP / FFT_SIZE * frequency.gather(1, nearest)
    return advance.cumsum(dim=2) % (2 * torch.pi) + torch.pi * (nearest - bins[None, :, None].long())
