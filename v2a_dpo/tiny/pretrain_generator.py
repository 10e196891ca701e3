"""Pre-trains the tiny generator on partly damaged recordings, so that there is something to align afterwards.

Letters in tensor names: N training recordings, B batch, L latent length, C latent channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.flow import interpolate, velocity_target
from v2a_dpo.models.base import Conditions
from v2a_dpo.randomness import normal, row_generator, uniform
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.encoders import train_encoders
from v2a_dpo.tiny.generator import TinyModel, build
from v2a_dpo.tiny.media import render_arrays
from v2a_dpo.tiny.schedule import one_cycle
from v2a_dpo.tiny.sound import DamageRates, render_damaged_audio
from v2a_dpo.tiny.world import DURATION_S, make_split, tokenize

_Progress = Callable[[int, int], None]
#: Share of rows whose video, and independently whose text, is left away, so that guidance has an empty branch.
_NULL_SHARE = 0.1


@dataclass(frozen=True)
class PretrainSettings:
    """How the generator is pre-trained; `recordings` damaged versions of each clip are heard."""

    seed: int
    num_clips: int
    steps: int
    encoder_steps: int
    batch_size: int = 32
    learning_rate: float = 2e-3
    recordings: int = 2
    checkpoint_every: int = 100
    damage: DamageRates = field(default_factory=DamageRates)


@dataclass(frozen=True)
class PretrainData:
    """What each step draws from: latents of damaged recordings and the conditions of the clip each belongs to."""

    latents: Tensor
    conditions: Conditions
    clip_of_recording: Tensor


def prepare(settings: PretrainSettings) -> tuple[TinyModel, PretrainData]:
    """An untrained generator with trained encoders and a fitted codec, and the latents and conditions to train it
    on."""
    clip_events = make_split(settings.seed, "pretrain", settings.num_clips)
    clips = render_arrays(clip_events)
    damaged = []
    for events in clip_events:
        generator = np.random.default_rng([events.appearance_seed, 4])
        damaged += [render_damaged_audio(events, generator, settings.damage) for _ in range(settings.recordings)]
    recordings = torch.from_numpy(np.stack(damaged))
    codec = PatchCodec.fit(recordings[::4])
    encoders = train_encoders(
        clips.frames,
        codec.encode(clips.audio),
        torch.tensor([tokenize(events.prompt) for events in clip_events]),
        steps=settings.encoder_steps,
        seed=settings.seed,
    )
    model = build(encoders, codec, seed=settings.seed)
    data = PretrainData(
        latents=torch.cat([model.encode(part) for part in recordings.split(256)]),
        conditions=_conditions(model, clips.frames, [events.prompt for events in clip_events]),
        clip_of_recording=torch.arange(settings.num_clips).repeat_interleave(settings.recordings),
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


def pretrain_generator(folder: Path, settings: PretrainSettings, *, progress: _Progress | None = None) -> TinyModel:
    """The pre-trained generator, saved in `folder`; a killed run goes on from its checkpoint and ends with the same
    weights."""
    model, data = prepare(settings)
    network = model.network.train()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
    )
    checkpoint = folder.with_name(f"{folder.name}-training.ckpt")
    folder.parent.mkdir(parents=True, exist_ok=True)
    first = _resume(checkpoint, network, optimizer)
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * one_cycle(step, settings.steps)
        loss = flow_matching_loss(model, data, settings, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % settings.checkpoint_every == 0:
            _save_checkpoint(checkpoint, network, optimizer, step + 1)
        if progress is not None:
            progress(step + 1, settings.steps)
    network.eval()
    with new_folder(folder) as target:
        model.save(target)
        record_checksums(target)
    checkpoint.unlink(missing_ok=True)
    return model


def flow_matching_loss(model: TinyModel, data: PretrainData, settings: PretrainSettings, step: int) -> Tensor:
    """The mean squared velocity error of step `step`'s rows, whose draws depend on the seed and the step alone."""
    generator = row_generator(settings.seed, "pretrain", step)
    rows = torch.from_numpy(generator.permutation(data.latents.shape[0])[: settings.batch_size])
    latents_BLC = data.latents[rows]
    noise_BLC = normal(latents_BLC.shape, generator)
    # Uniform times, not MMAudio's logit-normal ones: near pure noise is where a short training must learn the
    # conditions.
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


def _save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    torch.save({"step": step, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)


def _resume(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The number of steps done, with network and optimizer set to that point; 0 without a checkpoint."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
