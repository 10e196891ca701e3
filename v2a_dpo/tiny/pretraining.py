"""Pre-trains the tiny scorers on clean clips and the tiny generator on partly damaged recordings.

The damage leaves alignment something to improve.
Letters in tensor names: N training clips or recordings, B batch, L latent length, C latent channels, D embedding
channels, W words, P profile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.config import PretrainConfig
from v2a_dpo.flow import interpolate, velocity_target
from v2a_dpo.models.base import Conditions
from v2a_dpo.randomness import normal, row_generator, uniform
from v2a_dpo.tiny import scoring, world
from v2a_dpo.tiny.codec import HOP, PatchCodec, log_mel, mix_log_mel
from v2a_dpo.tiny.generator import TinyEncoders, TinyModel, build
from v2a_dpo.tiny.media import network_frames, render_arrays
from v2a_dpo.tiny.scoring import SCORER_NAMES, Synchronisation
from v2a_dpo.tiny.sound import coloured_noise, render_audio, render_damaged_audio
from v2a_dpo.tiny.world import CLASSES, DURATION_S, NUM_SAMPLES, SAMPLE_RATE, ClipEvents, make_split, tokenize

StepProgress = Callable[[int, int], object]
_MARGIN_FRAMES = 2 * Synchronisation.max_lag
_MARGIN_S = _MARGIN_FRAMES * HOP / SAMPLE_RATE
_CLIP_FRAMES = NUM_SAMPLES // HOP
#: Steps relative to the configured number: taggers learn fastest, synchronisation slowest.
_STEP_SHARES = {"panns": 0.5, "passt": 0.5, "clap": 1.0, "imagebind": 1.0, "synchformer": 1.3}
_BATCH_SIZES = {"panns": 48, "passt": 48, "clap": 64, "imagebind": 64, "synchformer": 48}
_NOISE_CLIPS = 64
_ENCODER_BATCH = 32
#: Share of rows whose video, and independently whose text, is replaced by the empty one, which guidance needs.
_NULL_SHARE = 0.1
#: Damaged recordings per clip.
_RECORDINGS = 2


def _silent(done: int, total: int) -> None:
    """A StepProgress that reports nothing."""


def one_cycle(step: int, steps: int, *, warmup: float = 0.2, floor: float = 0.01) -> float:
    """The factor on the peak learning rate in `step` of `steps`: linear up, then half a cosine down to `floor`."""
    rise = max(round(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    fall = (step - rise) / max(steps - rise, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fall))


def train(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    progress: StepProgress = _silent,
) -> None:
    """Minimises `loss(step)` over `steps` steps and leaves `network` in evaluation mode.

    With the file `checkpoint` a killed run continues and ends with the same weights, if `loss` depends on its step
    alone; the caller removes the file once the result is stored.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    first = 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    network.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * one_cycle(step, steps)
        value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if checkpoint is not None and (step + 1) % checkpoint_every == 0:
            state = {"step": step + 1, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, content := BytesIO())
            write_atomically(checkpoint, content.getvalue())
        progress(step + 1, steps)
    network.eval()


@dataclass(frozen=True)
class ScorerData:
    """Clean training clips: log-mels with quiet room noise before and after the clip, frames, words and labels."""

    mels: Tensor
    frames: Tensor
    tokens: Tensor
    labels: Tensor
    noise_mels: Tensor


def prepare_scorer_data(clip_events: Sequence[ClipEvents], *, seed: int) -> ScorerData:
    """Renders what `train_scorer` learns from; about 4 ms per clip on one core."""
    generator = np.random.default_rng([seed, 3])
    mels = [_extended_mel(events) for events in clip_events]
    noise = np.stack([coloured_noise(generator) for _ in range(_NOISE_CLIPS)])
    return ScorerData(
        mels=torch.stack(mels),
        frames=network_frames(clip_events),
        tokens=torch.tensor([tokenize(events.prompt) for events in clip_events]),
        labels=torch.tensor([CLASSES.index(events.label) for events in clip_events]),
        noise_mels=log_mel(torch.from_numpy(noise)),
    )


def _extended_mel(events: ClipEvents) -> Tensor:
    """The log-mel of the clip with a margin on both sides, so that a shifted one needs no padding."""
    audio = render_audio(events, start_s=-_MARGIN_S, duration_s=DURATION_S + 2 * _MARGIN_S)
    return log_mel(torch.from_numpy(audio)[None])[0].half()


def train_scorer(name: str, data: ScorerData, *, steps: int, seed: int, progress: StepProgress = _silent) -> nn.Module:
    """The trained scorer `name`, frozen and in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = scoring.build_scorer(name)
    generator = torch.Generator().manual_seed(seed)

    def loss(_: int) -> Tensor:
        rows = torch.randperm(data.labels.numel(), generator=generator)[: _BATCH_SIZES[name]]
        return _loss(scorer, data, rows, generator)

    train(scorer, loss, steps=steps, learning_rate=3e-3, progress=progress)
    return scorer.requires_grad_(False)


def _loss(scorer: nn.Module, data: ScorerData, rows: Tensor, generator: torch.Generator) -> Tensor:
    if isinstance(scorer, Synchronisation):
        lags = torch.randint(-scorer.max_lag, scorer.max_lag + 1, (rows.numel(),), generator=generator)
        audio = scorer.embed_mel(_augmented_mel(data, rows, generator, lags=lags))
        video = scorer.embed_video(data.frames[rows])
        return functional.cross_entropy(scorer.offset_logits(audio, video), lags + scorer.max_lag)
    mel = _augmented_mel(data, rows, generator)
    if isinstance(scorer, scoring.TaggerNetwork):
        return functional.cross_entropy(scorer.tag_mel(mel)[1], data.labels[rows], label_smoothing=0.1)
    if isinstance(scorer, scoring.AudioText):
        return _contrastive_loss(scorer.audio(mel), scorer.text(data.tokens[rows]), scorer.log_scale)
    if isinstance(scorer, scoring.AudioVideo):
        return _contrastive_loss(scorer.audio(mel), scorer.video(data.frames[rows]), scorer.log_scale)
    raise TypeError(f"no loss is defined for {type(scorer).__name__}")


def _contrastive_loss(first_BD: Tensor, second_BD: Tensor, log_scale: Tensor) -> Tensor:
    """The symmetric InfoNCE loss; the learned scale stays below 30 so that cosines of true pairs approach 1."""
    logits = first_BD @ second_BD.T * log_scale.exp().clamp_max(30.0)
    target = torch.arange(logits.shape[0])
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def _augmented_mel(data: ScorerData, rows: Tensor, generator: torch.Generator, *, lags: Tensor | None = None) -> Tensor:
    """Log-mels cut at the given lags (in steps of two frames; late sound is positive), half of them with some noise."""
    starts = torch.full((rows.numel(),), _MARGIN_FRAMES) if lags is None else _MARGIN_FRAMES - 2 * lags
    mel = torch.stack(
        [
            data.mels[row, :, start : start + _CLIP_FRAMES]
            for row, start in zip(rows.tolist(), starts.tolist(), strict=True)
        ]
    ).float()
    noise_rows = torch.randint(data.noise_mels.shape[0], (rows.numel(),), generator=generator)
    gain_db = -60.0 + 38.0 * torch.rand(rows.numel(), 1, 1, generator=generator)
    gain_db = torch.where(torch.rand(rows.numel(), 1, 1, generator=generator) < 0.5, gain_db, -120.0)
    return mix_log_mel(mel, data.noise_mels[noise_rows], gain_db)


def train_scorers(folder: Path, *, seed: int, num_clips: int, steps: int, progress: StepProgress = _silent) -> None:
    """Trains all scorers of the world `seed` and saves them in `folder`; an existing one is not trained again."""
    lengths = {name: max(round(steps * _STEP_SHARES[name]), 2) for name in SCORER_NAMES}
    missing = [name for name in SCORER_NAMES if not (folder / f"{name}.safetensors").is_file()]
    if missing:
        data = prepare_scorer_data(make_split(seed, "pretrain", num_clips), seed=seed)
    done, total = sum(lengths.values()) - sum(lengths[name] for name in missing), sum(lengths.values())
    for name in missing:
        scorer_seed, report = seed * 8 + SCORER_NAMES.index(name), partial(_report, progress, done, total)
        scorer = train_scorer(name, data, steps=lengths[name], seed=scorer_seed, progress=report)
        scoring.save_scorer(folder, name, scorer)
        done += lengths[name]
    write_json(folder / "config.json", {"family": "tiny-scorers", "seed": seed, "steps": steps})


def _report(progress: StepProgress, done: int, total: int, step: int, _: int) -> None:
    progress(done + step, total)


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
        rows, prompt_rows = order[:_ENCODER_BATCH], order[: 8 * _ENCODER_BATCH]
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


@dataclass(frozen=True)
class GeneratorData:
    """What each step draws from: latents of damaged recordings and the conditions of the clip each belongs to."""

    latents: Tensor
    conditions: Conditions
    clip_of_recording: Tensor


def prepare_generator(*, seed: int, num_clips: int, encoder_steps: int) -> tuple[TinyModel, GeneratorData]:
    """An untrained generator with trained encoders and a fitted codec, and its training data of the world `seed`."""
    clip_events = make_split(seed, "pretrain", num_clips)
    clips = render_arrays(clip_events)
    damaged = []
    for events in clip_events:
        generator = np.random.default_rng([events.appearance_seed, 4])
        damaged += [render_damaged_audio(events, generator, world.DamageRates()) for _ in range(_RECORDINGS)]
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
    data = GeneratorData(
        latents=torch.cat([model.encode(part) for part in recordings.split(256)]),
        conditions=_conditions(model, clips.frames, [events.prompt for events in clip_events]),
        clip_of_recording=torch.arange(num_clips).repeat_interleave(_RECORDINGS),
    )
    return model, data


def _conditions(model: TinyModel, frames: Tensor, prompts: list[str]) -> Conditions:
    """Raw conditions of clips in memory at 25 fps; the `clip` stream takes every third or fourth frame."""
    rates = [stream.rate for stream in model.frame_streams]
    picks = [
        [int(number * world.FRAME_RATE / rate + 0.999) for number in range(int(DURATION_S * rate))] for rate in rates
    ]
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
    progress: StepProgress = _silent,
) -> TinyModel:
    """The generator pre-trained on `num_clips` clips of the world `seed`, saved in `folder`.

    A killed run continues from its checkpoint beside `folder` and ends with the same weights.
    """
    model, data = prepare_generator(seed=seed, num_clips=num_clips, encoder_steps=config.encoder_steps)
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


def flow_matching_loss(model: TinyModel, data: GeneratorData, *, batch_size: int, seed: int, step: int) -> Tensor:
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
