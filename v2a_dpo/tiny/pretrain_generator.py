"""Pre-trains the tiny generator on partly damaged recordings, so that alignment has something to improve.

Letters in tensor names: N training recordings, B batch, L latent length, C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.config import PretrainConfig
from v2a_dpo.flow import interpolate, velocity_target
from v2a_dpo.models.base import Conditions
from v2a_dpo.randomness import normal, row_generator, uniform
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.encoders import train_encoders
from v2a_dpo.tiny.generator import TinyModel, build
from v2a_dpo.tiny.media import render_arrays
from v2a_dpo.tiny.sound import DamageRates, render_damaged_audio
from v2a_dpo.tiny.training import StepProgress, train
from v2a_dpo.tiny.world import DURATION_S, make_split, tokenize

#: Share of rows whose video, and independently whose text, is replaced by the empty one, which guidance needs.
_NULL_SHARE = 0.1
#: Damaged recordings per clip.
_RECORDINGS = 2


@dataclass(frozen=True)
class PretrainData:
    """What each step draws from: latents of damaged recordings and the conditions of the clip each belongs to."""

    latents: Tensor
    conditions: Conditions
    clip_of_recording: Tensor


def prepare(*, seed: int, num_clips: int, encoder_steps: int) -> tuple[TinyModel, PretrainData]:
    """An untrained generator with trained encoders and a fitted codec, and its training data: `num_clips` clips of the
    world `seed`."""
    clip_events = make_split(seed, "pretrain", num_clips)
    clips = render_arrays(clip_events)
    damaged = []
    for events in clip_events:
        generator = np.random.default_rng([events.appearance_seed, 4])
        damaged += [render_damaged_audio(events, generator, DamageRates()) for _ in range(_RECORDINGS)]
    recordings = torch.from_numpy(np.stack(damaged))
    codec = PatchCodec.fit(recordings[::4])
    encoders = train_encoders(
        clips.frames,
        codec.encode(clips.audio),
        torch.tensor([tokenize(events.prompt) for events in clip_events]),
        steps=encoder_steps,
        seed=seed,
    )
    model = build(encoders, codec, seed=seed)
    data = PretrainData(
        latents=torch.cat([model.encode(part) for part in recordings.split(256)]),
        conditions=_conditions(model, clips.frames, [events.prompt for events in clip_events]),
        clip_of_recording=torch.arange(num_clips).repeat_interleave(_RECORDINGS),
    )
    return model, data


def _conditions(model: TinyModel, frames: Tensor, prompts: list[str]) -> Conditions:
    """Raw conditions of clips whose frames at 25 fps are in memory; the `clip` stream takes every third or fourth
    frame."""
    rates = [stream.rate for stream in model.frame_streams]
    picks = [[int(number * 25 / rate + 0.999) for number in range(int(DURATION_S * rate))] for rate in rates]
    parts = []
    for start in range(0, len(prompts), 128):
        rows = frames[start : start + 128]
        streams = {stream.name: rows[:, pick] for stream, pick in zip(model.frame_streams, picks, strict=True)}
        parts.append(model.extract_conditions(streams, prompts[start : start + 128]))
    return Conditions.concatenate(parts)


def pretrain_generator(
    folder: Path,
    config: PretrainConfig,
    *,
    seed: int,
    num_clips: int,
    checkpoint_every: int = 100,
    progress: StepProgress | None = None,
) -> TinyModel:
    """The generator pre-trained on `num_clips` clips of the world `seed`, saved in `folder`.

    A killed run continues from its checkpoint beside `folder` and ends with the same weights.
    """
    model, data = prepare(seed=seed, num_clips=num_clips, encoder_steps=config.encoder_steps)
    checkpoint = folder.with_name(f"{folder.name}-training.ckpt")
    train(
        model.network,
        lambda step: flow_matching_loss(model, data, batch_size=config.batch_size, seed=seed, step=step),
        steps=config.generator_steps,
        learning_rate=config.learning_rate,
        weight_decay=1e-4,
        betas=(0.9, 0.95),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    with new_folder(folder) as target:
        model.save(target)
        record_checksums(target)
    checkpoint.unlink(missing_ok=True)
    return model


def flow_matching_loss(model: TinyModel, data: PretrainData, *, batch_size: int, seed: int, step: int) -> Tensor:
    """The mean squared velocity error of the rows of step `step`; all draws depend on `seed` and `step` alone."""
    generator = row_generator(seed, "pretrain", step)
    rows = torch.from_numpy(generator.permutation(data.latents.shape[0])[:batch_size])
    latents_BLC = data.latents[rows]
    noise_BLC = normal(latents_BLC.shape, generator)
    # Uniform times, not MMAudio's logit-normal ones: a short training must learn the conditions near pure noise.
    t_B = uniform((rows.numel(),), generator)
    conditions = _drop_conditions(model, data.conditions.rows(data.clip_of_recording[rows]), generator)
    velocity = model.velocity(interpolate(latents_BLC, noise_BLC, t_B), t_B, model.embed(conditions))
    return (velocity - velocity_target(latents_BLC, noise_BLC)).square().mean()


def _drop_conditions(model: TinyModel, conditions: Conditions, generator: np.random.Generator) -> Conditions:
    """The conditions with the video (both streams together) and the text of some rows replaced by the empty ones."""
    empty = model.empty_conditions(DURATION_S).tensors
    keep_video, keep_text = uniform((2, conditions.batch, 1, 1), generator) >= _NULL_SHARE
    keep = {"clip": keep_video, "sync": keep_video, "text": keep_text}
    return Conditions(
        {name: torch.where(keep[name], tensor, empty[name]) for name, tensor in conditions.tensors.items()}
    )
