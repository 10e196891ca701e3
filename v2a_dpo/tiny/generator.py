"""The tiny generator: an MMAudio of 0.8 million parameters with the tiny world's encoders and codec."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from v2a_dpo.errors import UserError
from v2a_dpo.models.mmaudio.config import MMAudioConfig
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.tiny.codec import LATENT_CHANNELS, PatchCodec
from v2a_dpo.tiny.encoders import FEATURE_SIZE, TinyEncoders
from v2a_dpo.tiny.world import MAX_PROMPT_WORDS

NETWORK_CONFIG = MMAudioConfig(
    latent_channels=LATENT_CHANNELS,
    hidden_size=48,
    num_heads=4,
    num_joint_blocks=2,
    num_fused_blocks=2,
    clip_dim=FEATURE_SIZE,
    sync_dim=FEATURE_SIZE,
    text_dim=FEATURE_SIZE,
    text_length=MAX_PROMPT_WORDS,
    mlp_multiple_of=64,
)


class TinyModel(MMAudioModel):
    """An MMAudio generator whose folder holds its own encoders and codec as well, so that it is complete by itself."""

    encoders: TinyEncoders
    codec: PatchCodec
    family = "tiny"

    def save(self, folder: Path) -> None:
        """Writes `config.json`, `model.safetensors`, `encoders.safetensors` and `codec.safetensors`."""
        super().save(folder)
        save_file(_on_cpu(self.encoders), folder / "encoders.safetensors")
        save_file(_on_cpu(self.codec), folder / "codec.safetensors")


def _on_cpu(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}


def build(encoders: TinyEncoders, codec: PatchCodec, *, seed: int) -> TinyModel:
    """An untrained tiny generator; its initial weights are drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    network = MMAudioNetwork(NETWORK_CONFIG, generator=generator)
    _keep_variance(network, generator)
    return TinyModel(network, encoders, codec)


def _keep_variance(network: MMAudioNetwork, generator: torch.Generator) -> None:
    """Draws all linear maps again so that signals keep their variance; modulations and output, which are zero, stay so.

    With MMAudio's initialisation the conditions fade to a few hundredths on their way through the gated layers, whose
    output is quadratic in small inputs: hundreds of thousands of steps correct that, a few hundred do not.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d) and module.weight.any():
            fan_in = module.weight[0].numel()
            # silu(u) * v of unit normal u and v has a standard deviation of 0.6.
            gain = 1 / 0.6 if name.endswith("w2") else 1.0
            nn.init.normal_(module.weight, std=gain * fan_in**-0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load(folder: Path) -> TinyModel:
    """The tiny generator saved in `folder`, in evaluation mode; raises UserError when the folder is incomplete."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        states = {name: load_file(folder / f"{name}.safetensors") for name in ("model", "encoders", "codec")}
    except FileNotFoundError as error:
        raise UserError(
            "The tiny generator's folder is incomplete.",
            where=str(error.filename),
            remedy="Run `v2a-dpo pretrain` again.",
        ) from error
    network, encoders, codec = MMAudioNetwork(MMAudioConfig(**config["network"])), TinyEncoders(), PatchCodec()
    for module, state in ((network, states["model"]), (encoders, states["encoders"]), (codec, states["codec"])):
        module.load_state_dict(state)
        module.eval()
    encoders.requires_grad_(False)
    return TinyModel(network, encoders, codec)
