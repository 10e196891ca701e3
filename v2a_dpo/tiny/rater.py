"""The simulated rater of the tiny world: judges a waveform against the clip's true events by plain signal processing.

It uses no scorer, so it does not prefer what they measure. It stands in for people and is labelled so wherever its
ratings appear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torchaudio
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from v2a_dpo.media.audio import resample
from v2a_dpo.randomness import row_generator
from v2a_dpo.tiny.sound import event_sound
from v2a_dpo.tiny.world import CLASSES, SAMPLE_RATE, ClipEvents, read_events

Rating = Literal["good", "medium", "bad"]
Waveform = NDArray[np.float32]

_FFT, _HOP, _BANDS = 512, 128, 48
_FRAME_S = _HOP / SAMPLE_RATE
#: Levels this far below the loudest moment count as silence.
_RANGE_DB = 45.0
#: An onset is where the eight fastest-rising bands rise by this much within four frames (32 ms).
_ONSET_RISE_DB, _RISE_FRAMES, _RISING_BANDS = 9.0, 4, 8
_MIN_GAP_S = 0.13
#: A detected onset this close to a true one is a hit.
ONSET_TOLERANCE_S = 0.08
_TEMPLATE_FRAMES = 30
_TEMPLATE_OCTAVES = np.arange(-1.7, 1.71, 0.1)
#: Seeds of event sounds among which every vowel of the voice occurs.
_TEMPLATE_VARIANTS = (0, 2, 4)
_SHARPNESS = 40.0
_NO_PITCH_OCTAVES = 0.6
_CLEAN_FLOOR_DB, _NOISY_FLOOR_DB = -40.0, -14.0


@dataclass(frozen=True)
class Judgement:
    """How well a sound fits its clip, every part in [0, 1]; `noise` is bad when high, the others when low."""

    onset_f1: float
    class_match: float
    noise: float
    pitch_match: float

    @property
    def quality(self) -> float:
        """The rater's score Q = .45 onset F1 + .30 class + .15 (1 - noise) + .10 pitch."""
        return 0.45 * self.onset_f1 + 0.30 * self.class_match + 0.15 * (1.0 - self.noise) + 0.10 * self.pitch_match


def judge(audio: Waveform, events: ClipEvents) -> Judgement:
    """The judgement of a 16 kHz waveform `[S]` in [-1, 1] for the clip with these `events`."""
    levels_db = band_levels_db(audio)
    onsets = detect_onsets(levels_db)
    class_match, pitch_match = _match_templates(levels_db, onsets, events)
    return Judgement(
        onset_f1=onset_f1(onsets * _FRAME_S, np.asarray(events.event_times_s)),
        class_match=class_match,
        noise=_noise(audio),
        pitch_match=pitch_match,
    )


@lru_cache(maxsize=1)
def _filters() -> Waveform:
    bands = torchaudio.functional.melscale_fbanks(
        _FFT // 2 + 1, 60.0, SAMPLE_RATE / 2, _BANDS, SAMPLE_RATE, mel_scale="htk"
    )
    return np.asarray(bands.numpy(), dtype=np.float32)


def band_levels_db(audio: Waveform) -> Waveform:
    """Levels `[frames, bands]` in dB above silence, i.e. 0 to 45, relative to the loudest band and moment."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (_FFT // 2, _FFT)), _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FFT).astype(np.float32), axis=1)) ** 2
    levels_db = 10.0 * np.log10(power @ _filters() + 1e-7)
    return np.asarray((levels_db - levels_db.max() + _RANGE_DB).clip(0.0, _RANGE_DB), dtype=np.float32)


def detect_onsets(levels_db: Waveform) -> NDArray[np.int64]:
    """The frames at which sounds begin: peaks of the mean rise of the fastest-rising bands.

    A band must rise above what its neighbours held before, so that a gliding tone is no onset (Böck and Widmer 2013).
    """
    before = maximum_filter1d(levels_db, 7, axis=1)
    rise = np.zeros_like(levels_db)
    rise[_RISE_FRAMES // 2 : -_RISE_FRAMES // 2] = (levels_db[_RISE_FRAMES:] - before[:-_RISE_FRAMES]).clip(0.0)
    strength = np.sort(rise, axis=1)[:, -_RISING_BANDS:].mean(axis=1)
    gap = round(_MIN_GAP_S / _FRAME_S)
    onsets: list[int] = []
    for frame in np.argsort(-strength, kind="stable"):
        if strength[frame] < _ONSET_RISE_DB:
            break
        if all(abs(frame - other) >= gap for other in onsets):
            onsets.append(int(frame))
    return np.sort(np.asarray(onsets, dtype=np.int64))


def onset_f1(detected_s: NDArray[np.float64], true_s: NDArray[np.float64]) -> float:
    """The F1 of detected against true onsets, each matched at most once, nearest pairs first, within 80 ms."""
    if detected_s.size == 0 or true_s.size == 0:
        return 0.0
    distance = np.abs(detected_s[:, None] - true_s[None, :])
    hits = 0
    while distance.size and distance.min() <= ONSET_TOLERANCE_S:
        row, column = np.unravel_index(int(distance.argmin()), distance.shape)
        distance[row, :] = distance[:, column] = np.inf
        hits += 1
    return 2.0 * hits / (detected_s.size + true_s.size)


@lru_cache(maxsize=1)
def _templates() -> Waveform:
    """Unit vectors `[classes, pitches, variants, frames * bands]` of one event of every class at every pitch."""
    rows = []
    for label in CLASSES:
        for octaves in _TEMPLATE_OCTAVES:
            for variant in _TEMPLATE_VARIANTS:
                sound = event_sound(label, float(2.0**octaves), np.random.default_rng(variant))
                levels_db = band_levels_db(np.pad(sound, (_FFT, 2 * _FFT)))
                rows.append(_segment(levels_db, int(detect_onsets(levels_db)[0])))
    return np.stack(rows).reshape(len(CLASSES), len(_TEMPLATE_OCTAVES), len(_TEMPLATE_VARIANTS), -1)


def _segment(levels_db: Waveform, onset: int) -> Waveform:
    """The unit vector of the levels just after `onset`, silence assumed beyond the end."""
    part = levels_db[onset : onset + _TEMPLATE_FRAMES]
    part = np.pad(part, ((0, _TEMPLATE_FRAMES - part.shape[0]), (0, 0)))
    # Levels just above silence carry little information: the floor is higher than the onset detector's.
    part = (part - part.max() + 0.75 * _RANGE_DB).clip(0.0).ravel()
    return np.asarray(part / max(float(np.linalg.norm(part)), 1e-9), dtype=np.float32)


def _match_templates(levels_db: Waveform, onsets: NDArray[np.int64], events: ClipEvents) -> tuple[float, float]:
    """The mean probability of the true class over the onsets, and how near its best-fitting pitch is to the true
    one."""
    if onsets.size == 0:
        return 0.0, 0.0
    segments = np.stack([_segment(levels_db, int(onset)) for onset in onsets])
    similarity = np.einsum("cpvd,nd->ncpv", _templates(), segments).max(axis=3)
    true_class = CLASSES.index(events.label)
    evidence = np.exp(_SHARPNESS * (similarity.max(axis=2) - similarity.max(axis=(1, 2))[:, None]))
    class_match = float((evidence[:, true_class] / evidence.sum(axis=1)).mean())
    octaves = float(np.median(_TEMPLATE_OCTAVES[similarity[:, true_class].argmax(axis=1)]))
    error_octaves = abs(octaves - float(np.log2(events.pitch)))
    return class_match, max(0.0, 1.0 - error_octaves / _NO_PITCH_OCTAVES)


def _noise(audio: Waveform) -> float:
    """Where the quietest fifth of the clip lies between a clean and a noisy floor, relative to its loudest frames."""
    level = np.square(audio[: audio.size // _FFT * _FFT].reshape(-1, _FFT)).mean(axis=1)
    floor_db = 10.0 * np.log10((np.quantile(level, 0.2) + 1e-9) / (np.quantile(level, 0.98) + 1e-9))
    return float(np.clip((floor_db - _CLEAN_FLOOR_DB) / (_NOISY_FLOOR_DB - _CLEAN_FLOOR_DB), 0.0, 1.0))


def simulated_rater(events: str) -> Callable[[str, Tensor, int], float]:
    """The rater for the tiny world whose events are in the file `events`: quality in [0, 1] of a clip's audio.

    The result takes the clip id, the audio `[S]` or `[channels, S]` in [-1, 1], and its sample rate in Hz.
    """
    clip_events = read_events(events)
    return lambda clip_id, audio, sample_rate: (
        judge(resample(audio, sample_rate, SAMPLE_RATE).numpy(), clip_events[clip_id]).quality
    )


def rate(
    qualities: Sequence[float],
    rows: Sequence[tuple[str, int]],
    *,
    seed: int,
    sigma: float = 0.06,
    flips: float = 0.05,
) -> list[Rating]:
    """The ratings of candidates `(clip_id, sample)`: terciles of quality, blurred by `sigma`, a share of `flips`
    replaced.

    Each row's blur and flip come from `(seed, clip_id, sample)`; the terciles are those of all rows.
    """
    if not qualities:
        return []
    generators = [row_generator(seed, "simulated rater", clip_id, sample) for clip_id, sample in rows]
    draws = np.array([(generator.standard_normal(), *generator.random(2)) for generator in generators])
    blurred = np.asarray(qualities) + sigma * draws[:, 0]
    terciles = np.searchsorted(np.quantile(blurred, [1 / 3, 2 / 3]), blurred)
    other = (2 * draws[:, 2]).astype(int)
    ratings = np.where(draws[:, 1] < flips, other + (other >= terciles), terciles)
    order: tuple[Rating, ...] = ("bad", "medium", "good")
    return [order[rating] for rating in ratings]
