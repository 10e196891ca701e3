"""The tiny generator with random weights, and conditions of three clips: what holds here holds for any weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.models.base import Conditions
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, TinyModel, build

DURATION_S = 2.0


@pytest.fixture(scope="session")
def make_model() -> Callable[[], TinyModel]:
    """Builds the same generator anew, for tests that change it."""
    codec = PatchCodec.fit(torch.randn(24, 32_000, generator=torch.Generator().manual_seed(1)) * 0.1)

    def make() -> TinyModel:
        generator = torch.Generator().manual_seed(1)
        model = build(TinyEncoders(), codec, seed=1)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        model.network.eval().requires_grad_(False)
        return model

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[[], TinyModel]) -> TinyModel:
    return make_model()


@pytest.fixture(scope="session")
def make_conditions(model: TinyModel) -> Callable[[int], Conditions]:
    """Raw conditions of so many clips; the first ones are the same whatever their number."""

    def make(clips: int) -> Conditions:
        empty = model.empty_conditions(DURATION_S).tensors
        rows = [
            {name: torch.randn(1, *tensor.shape[1:], generator=generator) for name, tensor in empty.items()}
            for generator in (torch.Generator().manual_seed(100 + clip) for clip in range(clips))
        ]
        return Conditions.concatenate([Conditions(row) for row in rows])

    return make


@pytest.fixture(scope="session")
def conditions(make_conditions: Callable[[int], Conditions]) -> Conditions:
    return make_conditions(3)


@pytest.fixture(scope="session")
def sampler() -> Callable[..., CandidateSampler]:
    """A sampler of a model; keywords are the settings' and the sampler's own."""

    def make(
        model: TinyModel, *, candidates: int = 3, guidance_scale: float = 2.0, seed: int = 0, steps: int = 4, **options
    ) -> CandidateSampler:
        settings = SamplingSettings(candidates=candidates, steps=steps, guidance_scale=guidance_scale, seed=seed)
        return CandidateSampler(model, settings, duration_s=DURATION_S, **options)

    return make
