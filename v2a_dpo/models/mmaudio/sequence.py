"""What a generator reads and makes for a duration: frames, feature rows, latent steps and audio samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from v2a_dpo.errors import UserError
from v2a_dpo.media.mel import MelSettings
from v2a_dpo.media.video import FrameStream
from v2a_dpo.models.synchformer import SynchformerVisualConfig

#: CLIP takes 384 pixels although its image is 378 wide; the rest falls off the patch grid, as in the original.
CLIP_STREAM = FrameStream("clip", 8.0, 384, 384, "stretch")
SYNC_STREAM = FrameStream("sync", 25.0, 224, 224, "crop")
#: Mel frames per latent step: the autoencoder halves the mel's frame rate.
VAE_REDUCTION = 2


@dataclass(frozen=True)
class Sequences:
    """The lengths of a generator's sequences, known without its encoders and its codec.

    `feature_lengths` maps seconds to the rows of CLIP-like and of synchronisation features; a latent step covers
    `samples_per_step` audio samples.
    """

    frame_streams: tuple[FrameStream, ...]
    feature_lengths: Callable[[float], tuple[int, int]]
    sample_rate: int
    samples_per_step: int

    @staticmethod
    def official(mel: MelSettings) -> Sequences:
        """Those of the released networks whose codec has the mel front end `mel`."""
        return Sequences((CLIP_STREAM, SYNC_STREAM), _feature_lengths, mel.sample_rate, mel.hop * VAE_REDUCTION)

    def latent_length(self, duration_s: float) -> int:
        """Latent steps that cover `duration_s` seconds, rounded up (8 s at 44.1 kHz: 345)."""
        return math.ceil(duration_s * self.sample_rate / self.samples_per_step)

    def num_samples(self, duration_s: float) -> int:
        """Audio samples of these latent steps, a little more than the duration (8 s at 44.1 kHz: 353280)."""
        return self.latent_length(duration_s) * self.samples_per_step


def _feature_lengths(duration_s: float) -> tuple[int, int]:
    """CLIP and Synchformer feature rows of `duration_s` seconds (8 s: 64 and 192)."""
    sync = SynchformerVisualConfig()
    segments = sync.num_segments(SYNC_STREAM.num_frames(duration_s))
    if segments < 1:
        raise UserError(
            f"{duration_s:g} s is too short for MMAudio: one segment of its motion encoder takes 0.64 s.",
            where="duration_s",
            remedy="Ask for a longer clip; the networks were trained at 8 s.",
        )
    return CLIP_STREAM.num_frames(duration_s), segments * sync.segment_tokens
