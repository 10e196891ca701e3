"""Products of a transposed view take a CPU a hundred times as long in bfloat16: the encoders must not make any."""

import pytest
import torch
from torch.nn import functional as F

from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipFeatures, ClipTextConfig, ClipVisionConfig
from v2a_dpo.models.synchformer import SynchformerVisual, SynchformerVisualConfig


@pytest.fixture
def in_order(monkeypatch):
    """For each product of a sequence with a weight, whether the sequence's numbers lie in order."""
    found, real = [], F.linear

    def linear(sequence, *rest):
        if sequence.ndim == 3:
            found.append(sequence.is_contiguous())
        return real(sequence, *rest)

    monkeypatch.setattr(F, "linear", linear)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        yield found


@pytest.mark.slow
def test_clips_towers_multiply_sequences_where_they_lie(in_order):
    config = ClipConfig(
        embed_dim=16, vision=ClipVisionConfig(28, 2, 32, 16, 14), text=ClipTextConfig(8, 50, 32, 2, layers=2)
    )
    clip = ClipFeatures(config).eval()
    clip.frames(torch.rand(1, 3, 3, 28, 28))
    clip.text(torch.randint(50, (3, 8)))
    assert in_order == [True] * 2 * 2 * 3  # attention's way in, and the two of a block's perceptron


def test_the_motion_encoder_does_too(in_order):
    encoder = SynchformerVisual(SynchformerVisualConfig(width=32, depth=1, num_heads=2)).eval()
    encoder(torch.rand(1, 2, 16, 3, 224, 224))
    assert len(in_order) >= 6
    assert all(in_order)
