"""The tiny generator's frozen condition encoders, in the roles of CLIP and Synchformer.

They are trained on clean clips, apart from the scorers, to predict the sound. Features of frames and of prompts predict
its profile, the latents' mean and maximum over time (CLIP's role); features over time predict its latents step by step
(Synchformer's role).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.media.video import FrameStream
from v2a_dpo.models.mmaudio.config import SYNC_GROUP
from v2a_dpo.tiny.codec import LATENT_CHANNELS
from v2a_dpo.tiny.networks import FrameEncoder
from v2a_dpo.tiny.render import NETWORK_SIZE
from v2a_dpo.tiny.training import train
from v2a_dpo.tiny.world import FRAME_RATE, VOCABULARY, tokenize

FEATURE_SIZE = 32
_BATCH = 32
#: Synchronisation features per second: one per latent token.
SYNC_RATE = 32
TINY_CLIP_STREAM = FrameStream("clip", 8.0, NETWORK_SIZE, NETWORK_SIZE, "stretch")
TINY_SYNC_STREAM = FrameStream("sync", float(FRAME_RATE), NETWORK_SIZE, NETWORK_SIZE, "stretch")


class TinyEncoders(nn.Module):
    """Turns frames and prompts into the raw features `clip`, `sync` and `text` of the tiny generator, 32 channels
    each."""

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

    @property
    def frame_streams(self) -> tuple[FrameStream, ...]:
        """The frames that `video` takes."""
        return (TINY_CLIP_STREAM, TINY_SYNC_STREAM)

    def feature_lengths(self, duration_s: float) -> tuple[int, int]:
        """Rows of `clip` and of `sync` features in `duration_s` seconds."""
        return TINY_CLIP_STREAM.num_frames(duration_s), sync_length(TINY_SYNC_STREAM.num_frames(duration_s))

    def video(self, frames: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `clip` `[B, 8 per second, 32]` and `sync` `[B, 32 per second, 32]` of both streams' uint8 frames."""
        return self.clip_features(frames["clip"]), self.sync_features(frames["sync"])

    def clip_features(self, frames_BTCHW: Tensor) -> Tensor:
        """Features of each frame by itself, `[B, T, 32]`."""
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


def train_encoders(
    frames_NTCHW: Tensor, latents_NLC: Tensor, tokens_NW: Tensor, *, steps: int, seed: int
) -> TinyEncoders:
    """Frozen encoders trained on clean clips: squared errors of the latents and of their profile."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = TinyEncoders()
    generator = torch.Generator().manual_seed(seed)
    profile_NP = torch.cat([latents_NLC.mean(dim=1), latents_NLC.amax(dim=1)], dim=1)

    def loss(_: int) -> Tensor:
        order = torch.randperm(frames_NTCHW.shape[0], generator=generator)
        # Prompts cost next to nothing, so each step sees far more of them.
        rows, prompt_rows = order[:_BATCH], order[: 8 * _BATCH]
        frames = frames_NTCHW[rows]
        frame_profile = encoders.frame_profile(encoders.clip_features(frames[:, ::6])).mean(dim=1)
        prompt_profile = encoders.prompt_profile(encoders.token_features(tokens_NW[prompt_rows]).mean(dim=1))
        return (
            functional.mse_loss(encoders.latents(encoders.sync_features(frames)), latents_NLC[rows])
            + functional.mse_loss(frame_profile, profile_NP[rows])
            + functional.mse_loss(prompt_profile, profile_NP[prompt_rows])
        )

    train(encoders, loss, steps=steps, learning_rate=4e-3)
    return encoders.requires_grad_(False)
