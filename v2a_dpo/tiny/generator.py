"""The tiny generator: an MMAudio of 0.8 million parameters with encoders and a codec of its own.

The frozen encoders have the roles of CLIP and Synchformer. They are trained on clean clips, apart from the scorers, to
predict the sound. Features of frames and of prompts predict its profile, the latents' mean and maximum over time
(CLIP's role); features over time predict its latents step by step (Synchformer's role).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.errors import UserError
from v2a_dpo.media.video import FrameStream
from v2a_dpo.models.mmaudio.config import SYNC_GROUP, MMAudioConfig
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import Sequences
from v2a_dpo.tiny.codec import LATENT_CHANNELS, SAMPLES_PER_TOKEN, PatchCodec
from v2a_dpo.tiny.networks import FrameEncoder
from v2a_dpo.tiny.render import NETWORK_SIZE
from v2a_dpo.tiny.world import FRAME_RATE, MAX_PROMPT_WORDS, SAMPLE_RATE, VOCABULARY, tokenize

FEATURE_SIZE = 32
#: Synchronisation features per second: one per latent token.
SYNC_RATE = 32
TINY_CLIP_STREAM = FrameStream("clip", 8.0, NETWORK_SIZE, NETWORK_SIZE, "stretch")
TINY_SYNC_STREAM = FrameStream("sync", float(FRAME_RATE), NETWORK_SIZE, NETWORK_SIZE, "stretch")
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


class TinyEncoders(nn.Module):
    """Turns frames and prompts into the generator's raw features `clip`, `sync` and `text` of 32 channels each."""

    def __init__(self) -> None:
        super().__init__()
        width = FEATURE_SIZE
        self.frames = FrameEncoder(width)
        self.contrast = nn.BatchNorm1d(2 * width)
        self.still = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.motion = nn.Sequential(
            nn.Conv1d(2 * width, 64, 5, padding=2),
            nn.BatchNorm1d(64),
            nn.SiLU(),
            nn.Conv1d(64, 64, 5, padding=2),
            nn.BatchNorm1d(64),
            nn.SiLU(),
            nn.Conv1d(64, width, 3, padding=1),
        )
        self.words = nn.Embedding(len(VOCABULARY), width, padding_idx=0)
        self.in_context = nn.Sequential(nn.Linear(2 * width, 64), nn.SiLU(), nn.Linear(64, width))
        self.frame_profile = nn.Linear(width, 2 * LATENT_CHANNELS)
        self.prompt_profile = nn.Linear(width, 2 * LATENT_CHANNELS)
        self.latents = nn.Sequential(nn.SiLU(), nn.Linear(width, LATENT_CHANNELS))

    def video(self, frames: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `clip` `[B, 8 per second, 32]` and `sync` `[B, 32 per second, 32]` of both streams' uint8 frames."""
        return self.clip_features(frames["clip"]), self.sync_features(frames["sync"])

    def clip_features(self, frames_BTCHW: Tensor) -> Tensor:
        """Features of each frame alone, `[B, T, 32]`."""
        return functional.layer_norm(self.still(self._contrasted(frames_BTCHW)), (FEATURE_SIZE,))

    def sync_features(self, frames_BTCHW: Tensor) -> Tensor:
        """Features over time `[B, T, 32]`, stretched linearly from the frames' rate to a multiple of eight tokens."""
        features = self.motion(self._contrasted(frames_BTCHW).transpose(1, 2))
        length = sync_length(frames_BTCHW.shape[1])
        features = functional.interpolate(features, size=length, mode="linear", align_corners=False)
        return functional.layer_norm(features.transpose(1, 2), (FEATURE_SIZE,))

    def _contrasted(self, frames_BTCHW: Tensor) -> Tensor:
        """Each frame's features beside their difference from the clip's mean: a still background would hide the
        events."""
        features = self.frames(frames_BTCHW)
        both = torch.cat([features, features - features.mean(dim=1, keepdim=True)], dim=2)
        return self.contrast(both.transpose(1, 2)).transpose(1, 2)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Features `[B, 10, 32]` of prompts: each word in the context of all; padding repeats the context alone."""
        return self.token_features(
            torch.tensor([tokenize(prompt) for prompt in prompts], device=self.words.weight.device)
        )

    def token_features(self, tokens_BW: Tensor) -> Tensor:
        """Features `[B, words, 32]` of word numbers."""
        words = self.words(tokens_BW)
        context = words.sum(dim=1, keepdim=True) / (tokens_BW > 0).sum(dim=1)[:, None, None].clamp_min(1)
        features = self.in_context(torch.cat([words, context.expand_as(words)], dim=2))
        return functional.layer_norm(features, (FEATURE_SIZE,))


def sync_length(num_frames: int) -> int:
    """Tokens of `sync` features for `num_frames` frames at 25 fps: a whole number of groups of eight, rounded up."""
    exact = num_frames * SYNC_RATE / FRAME_RATE
    return max(-(-round(exact) // SYNC_GROUP), 1) * SYNC_GROUP


def _feature_lengths(duration_s: float) -> tuple[int, int]:
    """Rows of `clip` and of `sync` features in `duration_s` seconds."""
    return TINY_CLIP_STREAM.num_frames(duration_s), sync_length(TINY_SYNC_STREAM.num_frames(duration_s))


SEQUENCES = Sequences((TINY_CLIP_STREAM, TINY_SYNC_STREAM), _feature_lengths, SAMPLE_RATE, SAMPLES_PER_TOKEN)


class TinyModel(MMAudioModel):
    """An MMAudio generator whose folder holds its own encoders and codec as well."""

    family = "tiny"

    def __init__(self, network: MMAudioNetwork, encoders: TinyEncoders, codec: PatchCodec) -> None:
        super().__init__(network, SEQUENCES, load_encoders=lambda: encoders, load_codec=lambda: codec)
        self._frozen: dict[str, nn.Module] = {"encoders": encoders, "codec": codec}

    def save(self, folder: Path) -> None:
        """Writes `config.json`, `model.safetensors`, `encoders.safetensors` and `codec.safetensors`."""
        super().save(folder)
        for name, module in self._frozen.items():
            state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
            save_file(state, folder / f"{name}.safetensors")


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


def load(folder: Path, device: torch.device) -> TinyModel:
    """The tiny generator in `folder`, on `device`, in evaluation mode; raises UserError when a file is missing."""
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
        module.eval().to(device)
    encoders.requires_grad_(False)
    return TinyModel(network, encoders, codec)
