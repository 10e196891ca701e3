"""Trains the tiny scorers on clean clips of the tiny world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from v2a_dpo.tiny import scoring
from v2a_dpo.tiny.codec import HOP, log_mel, mix_log_mel
from v2a_dpo.tiny.media import network_frames
from v2a_dpo.tiny.scoring import SCORER_NAMES, Synchronisation
from v2a_dpo.tiny.sound import coloured_noise, render_audio
from v2a_dpo.tiny.training import StepProgress, train
from v2a_dpo.tiny.world import CLASSES, DURATION_S, NUM_SAMPLES, SAMPLE_RATE, ClipEvents, make_split, tokenize

_MARGIN_FRAMES = 2 * Synchronisation.max_lag
_MARGIN_S = _MARGIN_FRAMES * HOP / SAMPLE_RATE
_CLIP_FRAMES = NUM_SAMPLES // HOP
#: Steps relative to the configured number: taggers learn fastest, synchronisation slowest.
_STEP_SHARES = {"panns": 0.5, "passt": 0.5, "clap": 1.0, "imagebind": 1.0, "synchformer": 1.3}
_BATCH_SIZES = {"panns": 48, "passt": 48, "clap": 64, "imagebind": 64, "synchformer": 48}
_NOISE_CLIPS = 64


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


def train_scorer(
    name: str, data: ScorerData, *, steps: int, seed: int, progress: StepProgress | None = None
) -> nn.Module:
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
    """The symmetric InfoNCE loss; the learnt scale stays below 30 so that cosines of true pairs approach 1."""
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


def train_scorers(folder: Path, *, seed: int, num_clips: int, steps: int, progress: StepProgress | None = None) -> None:
    """Trains all scorers of the world `seed` and saves them in `folder`; an existing one is not trained again."""
    lengths = {name: max(round(steps * _STEP_SHARES[name]), 2) for name in SCORER_NAMES}
    missing = [name for name in SCORER_NAMES if not (folder / f"{name}.safetensors").is_file()]
    if missing:
        data = prepare_scorer_data(make_split(seed, "pretrain", num_clips), seed=seed)
    done, total = sum(lengths.values()) - sum(lengths[name] for name in missing), sum(lengths.values())
    for name in missing:
        shifted = None if progress is None else partial(_report, progress, done, total)
        seed_of_scorer = seed * 8 + SCORER_NAMES.index(name)
        scorer = train_scorer(name, data, steps=lengths[name], seed=seed_of_scorer, progress=shifted)
        scoring.save_scorer(folder, name, scorer)
        done += lengths[name]
    (folder / "config.json").write_text(
        json.dumps({"family": "tiny-scorers", "seed": seed, "steps": steps}, indent=2, allow_nan=False)
    )


def _report(progress: StepProgress, done: int, total: int, step: int, _: int) -> None:
    progress(done + step, total)
