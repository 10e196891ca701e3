"""Score 5: PESQ of the generated sound against the clip's own, for clips with human speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from v2a_dpo.media.audio import resample
from v2a_dpo.media.video import FrameStream
from v2a_dpo.scoring.base import Missing, Score, ScoringClip
from v2a_dpo.scoring.pesq_worker import MAX_DURATION_S, PESQ_RATE, why_not, wide_band_pesq
from v2a_dpo.worker_pool import WorkerDied, WorkerPool


class SpeechQuality:
    """PESQ, wide band, in `workers` processes; every failure, a crash included, is a missing score with its reason.

    Both sounds are cut to `max_duration_s`; longer ones can crash the package.
    """

    name = "pesq"
    frame_streams: tuple[FrameStream, ...] = ()

    def __init__(self, *, workers: int, max_duration_s: float = MAX_DURATION_S) -> None:
        self._pool: WorkerPool[tuple[np.ndarray, np.ndarray], float | str] = WorkerPool(wide_band_pesq, workers=workers)
        self._max_samples = round(max_duration_s * PESQ_RATE)

    def score(self, clips: Sequence[ScoringClip], audio_BNS: Tensor, sample_rate: int) -> list[list[Score]]:
        """`[B][N]` PESQ values; missing for clips without speech or without a sound of their own."""
        table: list[list[Score]] = []
        jobs: list[tuple[np.ndarray, np.ndarray]] = []
        places: list[tuple[int, int]] = []
        for row, clip in enumerate(clips):
            reason = _why_no_reference(clip)
            table.append([Missing(reason)] * audio_BNS.shape[1])
            if reason or clip.reference is None:
                continue
            reference = self._at_16_khz(clip.reference, clip.reference_rate)
            for candidate, degraded in enumerate(self._at_16_khz(audio_BNS[row], sample_rate)):
                if obstacle := why_not(reference, degraded):
                    table[row][candidate] = Missing(obstacle)
                else:
                    jobs.append((reference, degraded))
                    places.append((row, candidate))
        for (row, candidate), result in zip(places, self._pool.map(jobs), strict=True):
            table[row][candidate] = _score(result)
        return table

    def close(self) -> None:
        """Ends the worker processes."""
        self._pool.close()

    def _at_16_khz(self, audio: Tensor, rate: int) -> np.ndarray:
        cut: np.ndarray = resample(audio.float().cpu(), rate, PESQ_RATE)[..., : self._max_samples].numpy()
        return cut


def _why_no_reference(clip: ScoringClip) -> str:
    if not clip.has_speech:
        return "the clip has no human speech"
    return "the clip has no sound of its own" if clip.reference is None else ""


def _score(result: float | str | WorkerDied) -> Score:
    if isinstance(result, WorkerDied):
        return Missing("PESQ crashed")
    return Missing(result) if isinstance(result, str) else result
