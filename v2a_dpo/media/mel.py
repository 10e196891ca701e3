"""Log-mel spectrograms as vocoders and latent codecs take them.

Letters in tensor names: B batch, S samples, F frequency bins, M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class MelSettings:
    """The settings of a log-mel spectrogram: rates in Hz, lengths in samples, `log` the base of the logarithm."""

    sample_rate: int
    n_fft: int
    hop: int
    num_mels: int
    fmin: float
    fmax: float
    log: Literal["10", "e"]
    floor: float = 1e-5

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform of `num_samples` samples (a multiple of the hop gives one frame per hop)."""
        padded = num_samples + 2 * ((self.n_fft - self.hop) // 2)
        return (padded - self.n_fft) // self.hop + 1


#: The front ends of MMAudio's two codecs; the first is Frieren's too (and BigVGAN's of the same band count).
MEL_16K = MelSettings(16_000, 1024, 256, 80, 0.0, 8_000.0, "10")
MEL_44K = MelSettings(44_100, 2048, 512, 128, 0.0, 22_050.0, "e")


class LogMel(nn.Module):
    """Log-mel spectrogram of waveforms in [-1, 1]: magnitudes, Slaney bands with Slaney area norm, floored
    logarithm."""

    window: Tensor
    basis: Tensor

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.settings = settings
        # A codec laid out on the meta device still needs real constants.
        with torch.device("cpu"):
            basis_FM = melscale_fbanks(
                settings.n_fft // 2 + 1,
                settings.fmin,
                settings.fmax,
                settings.num_mels,
                settings.sample_rate,
                norm="slaney",
                mel_scale="slaney",
            )
            window = torch.hann_window(settings.n_fft)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("basis", basis_FM.T.contiguous(), persistent=False)

    def forward(self, waveform_BS: Tensor) -> Tensor:
        """The log-mel `[B, M, T]` in float32; samples outside [-1, 1] are clamped, both ends are reflected."""
        settings = self.settings
        waveform_BS = waveform_BS.float().clamp(-1.0, 1.0)
        padding = (settings.n_fft - settings.hop) // 2
        padded = F.pad(waveform_BS[:, None], (padding, padding), mode="reflect")[:, 0]
        spectrum_BFT = torch.stft(
            padded, settings.n_fft, settings.hop, window=self.window, center=False, return_complex=True
        )
        # The constant keeps the gradient of the magnitude finite in silence.
        magnitude_BFT = (spectrum_BFT.real.square() + spectrum_BFT.imag.square() + 1e-9).sqrt()
        mel_BMT = (self.basis @ magnitude_BFT).clamp(min=settings.floor)
        return mel_BMT.log10() if settings.log == "10" else mel_BMT.log()
