"""BigVGAN vocoders: log-mel spectrograms to waveforms. MMAudio and Frieren share them.

The generator is NVIDIA's own, from the `bigvgan` package (MIT), whose parameter names the released files have; only its
anti-aliased activations are computed in another way (`antialiased.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from v2a_dpo.models.antialiased import AntiAliasedActivation
from v2a_dpo.models.loading import load_strictly


@dataclass(frozen=True)
class VocoderConfig:
    """The sizes of a BigVGAN generator; `use_tanh_at_final` False clamps the waveform instead."""

    num_mels: int
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int = 1536
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    resblock: str = "1"
    activation: str = "snakebeta"
    snake_logscale: bool = True
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True

    @property
    def hop(self) -> int:
        """Samples of one mel frame."""
        return math.prod(self.upsample_rates)


#: `best_netG.pt` of Make-An-Audio 2 (16 kHz, 80 bands).
BIGVGAN_16K = VocoderConfig(80, (4, 4, 2, 2, 2, 2), (8, 8, 4, 4, 4, 4))
#: `nvidia/bigvgan_v2_44khz_128band_512x`.
BIGVGAN_V2_44K = VocoderConfig(
    128, (8, 4, 2, 2, 2, 2), (16, 8, 4, 4, 4, 4), use_tanh_at_final=False, use_bias_at_final=False
)


class Vocoder(nn.Module):
    """A BigVGAN generator behind one call; its parameters sit under `generator` with the official names."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        from bigvgan.alias_free_activation.torch.act import Activation1d
        from bigvgan.bigvgan import BigVGAN
        from bigvgan.env import AttrDict

        self.config = config
        with warnings.catch_warnings():
            # The package builds with torch's older weight norm, which has the released files' names.
            warnings.simplefilter("ignore", FutureWarning)
            self.generator: nn.Module = BigVGAN(AttrDict(asdict(config)))
        for module in list(self.generator.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, Activation1d):
                    setattr(module, name, AntiAliasedActivation(child))

    def load_checkpoint(self, state: Mapping[str, Tensor]) -> None:
        """Loads a released generator's state dict strictly and merges its weight normalisation.

        Takes split weights (`weight_g`/`weight_v`, or torch's `parametrizations`) and merged ones (`weight`).
        Raises `UserError` naming the first keys or shapes that differ.
        """
        merged = not any(key.endswith(("weight_g", "weight_v", "original0", "original1")) for key in state)
        if merged:
            merge_weight_norm(self.generator)
        load_strictly(
            self.generator,
            state,
            "vocoder",
            remedy="Take the generator entry of the file that belongs to this vocoder.",
        )
        if not merged:
            merge_weight_norm(self.generator)

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """The waveform `[B, T * hop]` in [-1, 1] of a log-mel spectrogram `[B, M, T]`."""
        return self.generator(mel_BMT)[:, 0]


def merge_weight_norm(module: nn.Module) -> None:
    """Replaces every weight-normalised weight below `module` by its effective value; does nothing the second time."""
    from torch.nn.utils import parametrize, remove_weight_norm
    from torch.nn.utils.parametrize import is_parametrized

    for layer in module.modules():
        if is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
        elif "weight_g" in layer._parameters:
            remove_weight_norm(layer)
