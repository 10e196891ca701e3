"""CLIP features as MMAudio takes them: one vector per frame and one per text token.

The network is open_clip's; the released pipeline uses Apple's DFN5B ViT-H/14 at 378 pixels.
Letters in tensor names: B batch, T frames, N text tokens, E embedding channels, W text width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.models.loading import load_strictly

_IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
_IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipVisionConfig:
    """The image tower's sizes, by open_clip's names."""

    image_size: int = 378
    layers: int = 32
    width: int = 1280
    head_width: int = 80
    patch_size: int = 14


@dataclass(frozen=True)
class ClipTextConfig:
    """The text tower's sizes, by open_clip's names."""

    context_length: int = 77
    vocab_size: int = 49408
    width: int = 1024
    heads: int = 16
    layers: int = 24


@dataclass(frozen=True)
class ClipConfig:
    """The sizes of a CLIP network; the defaults are those of ViT-H-14-378-quickgelu."""

    embed_dim: int = 1024
    quick_gelu: bool = True
    vision: ClipVisionConfig = ClipVisionConfig()
    text: ClipTextConfig = ClipTextConfig()


class ClipFeatures(nn.Module):
    """A CLIP network under `clip` (official parameter names) read out in the two ways MMAudio needs."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        self.config = config
        # open_clip is untyped; the towers are reached by their names below.
        self.clip: Any = CLIP(
            config.embed_dim,
            CLIPVisionCfg(**asdict(config.vision)),
            CLIPTextCfg(**asdict(config.text)),
            quick_gelu=config.quick_gelu,
        )
        for tower in (self.clip.visual.transformer, self.clip.transformer):
            _put_sequences_first(tower)
        # A network laid out on the meta device still needs real constants.
        length = config.text.context_length
        self.clip.attn_mask = torch.full((length, length), float("-inf"), device="cpu").triu_(1)
        for name, values in (("image_mean", _IMAGE_MEAN), ("image_std", _IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values, device="cpu").reshape(3, 1, 1), persistent=False)

    def load_checkpoint(self, state: Mapping[str, Tensor]) -> None:
        """Loads a released CLIP state dict strictly; raises `UserError` naming the keys or shapes that differ."""
        load_strictly(
            self.clip,
            state,
            "CLIP network",
            remedy="Take open_clip_pytorch_model.bin of apple/DFN5B-CLIP-ViT-H-14-378.",
        )

    def normalize_frames(self, frames_BTCHW: Tensor) -> Tensor:
        """Frames in [0, 1] shifted and scaled to CLIP's statistics."""
        return (frames_BTCHW - self.image_mean) / self.image_std

    def frames(self, frames_BTCHW: Tensor) -> Tensor:
        """The L2-normalised image embeddings `[B, T, E]` of frames in [0, 1].

        Frames may be larger than the network's image by less than a patch: the patch convolution leaves the rest out.
        MMAudio feeds 384 pixels to the 378-pixel network.
        """
        images = self.normalize_frames(frames_BTCHW).flatten(0, 1).to(self.clip.visual.conv1.weight.dtype)
        return self.clip.encode_image(images, normalize=True).unflatten(0, frames_BTCHW.shape[:2])

    def text_states(self, tokens_BN: Tensor) -> Tensor:
        """The text tower's states `[B, N, W]` after its last norm, at every position, padding included."""
        clip = self.clip
        x_BNW = clip.token_embedding(tokens_BN) + clip.positional_embedding
        return clip.ln_final(clip.transformer(x_BNW, attn_mask=clip.attn_mask))

    def text(self, tokens_BN: Tensor) -> Tensor:
        """The text states L2-normalised per token, `[B, N, W]`."""
        return F.normalize(self.text_states(tokens_BN), dim=-1)


def _put_sequences_first(tower: Any) -> None:
    """Lets an open_clip transformer copy its input once into the order `[N, B, E]` that torch's attention works in.

    Left batch first, each attention transposes a view, and a product of such a view in bfloat16 takes a CPU a hundred
    times as long.
    """
    tower.batch_first = False
    for block in tower.resblocks:
        block.attn.batch_first = False


def tokenize(texts: Sequence[str], *, context_length: int = 77) -> Tensor:
    """Token ids `[B, context_length]` of CLIP's byte-pair encoding: lower-cased, padded with zeros, cut to length."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=context_length)(list(texts))
