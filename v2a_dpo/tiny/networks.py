"""The small networks inside the tiny scorers.

Letters in tensor names: B batch, M mel bins, T time steps, D embedding channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.tiny.codec import NUM_MELS
from v2a_dpo.tiny.world import MAX_PROMPT_WORDS, VOCABULARY


def _normalised_conv2d(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


def _normalised_conv1d(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm1d(outputs), nn.SiLU()
    )


class SpectrogramTrunk(nn.Module):
    """A four-layer 2-D CNN over a log-mel; pools mean and maximum over time and frequency to `[B, D]`."""

    def __init__(self, widths: tuple[int, int, int, int], *, first_kernel: int) -> None:
        super().__init__()
        layers = [_normalised_conv2d(1, widths[0], kernel=first_kernel)]
        layers += [_normalised_conv2d(low, high) for low, high in pairwise(widths)]
        self.layers = nn.Sequential(*layers)
        self.embedding = nn.Linear(2 * widths[-1], widths[-1])

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """The embedding `[B, D]` of log-mels."""
        features = self.layers(mel_BMT[:, None])
        return self.embedding(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))


class BandTrunk(nn.Module):
    """A four-layer 1-D CNN that reads mel bins as channels; pools over time to `[B, D]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _normalised_conv1d(NUM_MELS, width, kernel=5, stride=2),
            _normalised_conv1d(width, width, kernel=3, stride=2),
            _normalised_conv1d(width, width, kernel=3),
            _normalised_conv1d(width, width, kernel=3, stride=2),
        )
        self.embedding = nn.Linear(2 * width, width)

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """The embedding `[B, D]` of log-mels."""
        features = self.layers(mel_BMT)
        return self.embedding(torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1))


class FrameEncoder(nn.Module):
    """Turns frames uint8 `[B, T, 3, 32, 32]` into features `[B, T, D]`, each frame alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, stride=4)
        self.layers = nn.Sequential(nn.SiLU(), nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.SiLU())
        self.out = nn.Linear(32 * 4 * 4, width)

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """The features `[B, T, D]` of frames."""
        batch, length = frames_BTCHW.shape[:2]
        # One pass over memory from bytes to [-1, 1]: the pictures are far larger than the features.
        pixels = torch.add(torch.tensor(-1.0), frames_BTCHW.flatten(0, 1), alpha=1 / 127.5)
        return self.out(self.layers(self.patches(pixels)).flatten(1)).unflatten(0, (batch, length))


class ClipVideoEncoder(nn.Module):
    """Turns every second frame of a clip into one unit vector `[B, D]` that keeps what happens when."""

    time_slots = 12

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.frames = FrameEncoder(width)
        self.layers = nn.Sequential(
            _normalised_conv1d(width, width, kernel=5), _normalised_conv1d(width, width, kernel=3)
        )
        self.out = nn.Linear(width * self.time_slots, embedding_size)

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """The unit vectors `[B, D]` of clips."""
        features = self.layers(self.frames(frames_BTCHW[:, ::2]).transpose(1, 2))
        slots = functional.adaptive_avg_pool1d(features, self.time_slots)
        return functional.normalize(self.out(slots.flatten(1)), dim=1)


class ClipAudioEncoder(nn.Module):
    """Turns a log-mel into one unit vector `[B, D]` that keeps what happens when."""

    time_slots = 12

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _normalised_conv1d(NUM_MELS, width, kernel=5, stride=2),
            _normalised_conv1d(width, width, kernel=5),
            _normalised_conv1d(width, width, kernel=3, stride=2),
        )
        self.out = nn.Linear(width * self.time_slots, embedding_size)

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """The unit vectors `[B, D]` of log-mels."""
        slots = functional.adaptive_avg_pool1d(self.layers(mel_BMT), self.time_slots)
        return functional.normalize(self.out(slots.flatten(1)), dim=1)


class PromptEncoder(nn.Module):
    """Turns word numbers `[B, words]` into one unit vector `[B, D]`; padding does not count."""

    def __init__(self, width: int, embedding_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), width, padding_idx=0)
        self.positions = nn.Parameter(torch.zeros(MAX_PROMPT_WORDS, width))
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.out = nn.Linear(width, embedding_size)

    def forward(self, tokens_BW: Tensor) -> Tensor:
        """The unit vectors `[B, D]` of prompts."""
        used = (tokens_BW > 0).to(self.positions.dtype)[..., None]
        features = self.layers(self.words(tokens_BW) + self.positions) * used
        return functional.normalize(self.out(features.sum(dim=1) / used.sum(dim=1).clamp_min(1.0)), dim=1)
