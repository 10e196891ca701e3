"""How loud sounds are: shown beside the metrics, judged neither better nor worse.

Taggers react to level as well as to content: a louder system has longer embeddings, hence another Fréchet distance.

| level | of a clip's mono excerpt as it was decoded |
| --- | --- |
| RMS | root of the mean square of its samples, 1 is full scale |
| loudness | integrated loudness in LUFS by ITU-R BS.1770; none for silence and for less than 0.4 s |
| clipped samples | share of samples whose magnitude is 0.999 or more |
| embedding norm | Euclidean norm of its PaSST embedding |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_Array = NDArray[np.floating]

#: The standard gives its two filters (head and low cut) for this rate: rows of b0, b1, b2, a0, a1, a2.
_RATE = 48_000
_K_WEIGHTING = np.array(
    [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
)
_BLOCK, _STEP = round(0.4 * _RATE), round(0.1 * _RATE)
_OFFSET_LUFS, _ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -0.691, -70.0, -10.0
_CLIPPED = 0.999


@dataclass(frozen=True)
class Level:
    """A level's key in artifacts, its title in tables, and the format of a number."""

    key: str
    title: str
    form: str

    def shown(self, value: float | None) -> str:
        """`value` as tables write it; a missing one is a dash."""
        return "–" if value is None else format(value, self.form).replace("-", "−")


LEVELS = (
    Level("rms", "RMS", ".3f"),
    Level("lufs", "Loudness (LUFS)", ".1f"),
    Level("clipped_share", "Clipped samples", ".2%"),
    Level("embedding_norm", "PaSST embedding norm", ".2f"),
)
#: Those that are measured on the sound itself, and kept for each clip.
MEASURED = ("rms", "lufs", "clipped_share")


def sound_levels(audio_S: Tensor, sample_rate: int) -> dict[str, float | None]:
    """The levels MEASURED of a mono sound `[S]` in [-1, 1] with one sample or more."""
    return {
        "rms": float(audio_S.square().mean().sqrt()),
        "lufs": integrated_loudness(audio_S, sample_rate),
        "clipped_share": float((audio_S.abs() >= _CLIPPED).float().mean()),
    }


def integrated_loudness(audio_S: Tensor, sample_rate: int) -> float | None:
    """The integrated loudness of a mono sound `[S]` in LUFS (ITU-R BS.1770, gated blocks of 0.4 s).

    None where no block is above the absolute gate of -70 LUFS, and where the sound is shorter than a block.
    torchaudio's own measure clips the filtered signal at full scale, which makes loud sounds too quiet by some 0.3 dB.
    """
    # Both imports take seconds, and most commands measure nothing.
    from scipy.signal import sosfilt

    from v2a_dpo.media.audio import resample

    samples = resample(audio_S, sample_rate, _RATE).numpy().astype(np.float64)
    if samples.size < _BLOCK:
        return None
    weighted = sosfilt(_K_WEIGHTING, samples)
    blocks = np.lib.stride_tricks.sliding_window_view(np.square(weighted), _BLOCK)[::_STEP]
    power_B = blocks.mean(axis=1)
    audible = power_B[_lufs(power_B) > _ABSOLUTE_GATE_LUFS]
    if audible.size == 0:
        return None
    return float(_lufs(audible[_lufs(audible) > _lufs(audible.mean()) + _RELATIVE_GATE_LU].mean()))


def _lufs(power: _Array) -> _Array:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET_LUFS + 10 * np.log10(power))


def mean_levels(columns: Mapping[str, _Array]) -> dict[str, float | None]:
    """The mean of each of LEVELS over the clips in `columns` of a features folder, None where no clip has it."""
    values = {key: columns[key] for key in MEASURED}
    values["embedding_norm"] = np.linalg.norm(columns["passt_embedding"].astype(np.float64), axis=1)
    return {
        level.key: float(np.nanmean(values[level.key])) if np.isfinite(values[level.key]).any() else None
        for level in LEVELS
    }
