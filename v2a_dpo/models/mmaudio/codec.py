"""MMAudio's latent codec: mel front end, autoencoder and vocoder in a row, both ways.

Letters in tensor names: B batch, S audio samples, L latent length, C latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.media.mel import MEL_16K, MEL_44K, LogMel, MelSettings
from v2a_dpo.models.mmaudio.sequence import VAE_REDUCTION
from v2a_dpo.models.mmaudio.vae import MelVAE, MelVAEConfig
from v2a_dpo.models.vocoder import BIGVGAN_16K, BIGVGAN_V2_44K, Vocoder, VocoderConfig

#: Name of a released codec -> mel front end and vocoder; `MelVAEConfig.official` has the same names.
OFFICIAL_CODECS: dict[str, tuple[MelSettings, VocoderConfig]] = {
    "16k": (MEL_16K, BIGVGAN_16K),
    "44k": (MEL_44K, BIGVGAN_V2_44K),
}


class MelCodec(nn.Module):
    """Audio to unnormalised latents and back; give `vae` and `vocoder` their weights by their `load_checkpoint`."""

    def __init__(self, mel: MelSettings, vae: MelVAEConfig, vocoder: VocoderConfig) -> None:
        super().__init__()
        self._hop = mel.hop
        self.mel = LogMel(mel)
        self.vae = MelVAE(vae)
        self.vocoder = Vocoder(vocoder)

    @staticmethod
    def official(name: str) -> MelCodec:
        """The released codec `16k` or `44k`, its weights not loaded."""
        mel, vocoder = OFFICIAL_CODECS[name]
        return MelCodec(mel, MelVAEConfig.official(name), vocoder)

    @torch.no_grad()
    def encode(self, audio_BS: Tensor) -> Tensor:
        """The posterior's mean `[B, L, C]`; silence fills the last latent step."""
        step = self._hop * VAE_REDUCTION
        mel_BMT = self.mel(F.pad(audio_BS, (0, -audio_BS.shape[1] % step)))
        mean, _ = self.vae.encode(mel_BMT)
        return mean.transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents_BLC: Tensor) -> Tensor:
        """The audio `[B, S]` in [-1, 1] of unnormalised latents."""
        return self.vocoder(self.vae.decode(latents_BLC.transpose(1, 2)))
