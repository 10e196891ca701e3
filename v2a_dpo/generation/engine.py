"""The engine: clips stream through sampling, decoding and FLAC encoding, and come out in the order they came in.

Sampling and decoding are queued on the device; a GPU works on a batch while the host already prepares the next one and
threads encode the one before (libsndfile works outside the interpreter's lock). How far that may run ahead is bounded.
A clip's batch and thread change its numbers by rounding at most, and never its place.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from v2a_dpo.artifacts.shards import QuarantinedRow
from v2a_dpo.generation.batches import AdaptiveBatches, automatic_batch_size
from v2a_dpo.generation.sampler import CandidateSampler
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.models.base import Conditions

#: Latents are kept in half precision (27.6 KB for 8 s of MMAudio 44k), and the audio is decoded from what is kept.
LATENT_DTYPE = torch.float16
_MAX_ENCODERS = 4


@dataclass(frozen=True)
class ClipCandidates:
    """The N candidates of a clip: latents `[N, L, C]` in half precision and one FLAC file for each."""

    clip_id: str
    latents: np.ndarray
    flac: list[bytes]


@dataclass(frozen=True)
class _Drawn:
    """A batch whose copy to the host ends with the event `arrived`; None on a CPU."""

    clip_ids: Sequence[str]
    latents: Tensor
    audio: Tensor
    arrived: torch.cuda.Event | None


class CandidateEngine:
    """Draws, decodes and encodes candidates; `clips_per_batch` None chooses the batch size from the device."""

    def __init__(self, sampler: CandidateSampler, *, clips_per_batch: int | None = None) -> None:
        self._sampler = sampler
        self.clips_per_batch = clips_per_batch or automatic_batch_size(sampler)
        # On a CPU the networks need the cores; one thread hides the encoding.
        self._encoders = 1 if sampler.device.type == "cpu" else min(_MAX_ENCODERS, os.cpu_count() or 1)

    def generate(self, clip_ids: Sequence[str], conditions: Conditions) -> Iterator[ClipCandidates | QuarantinedRow]:
        """The candidates of every clip, in order; `conditions` has one raw row per clip, on the CPU.

        A clip whose audio is not finite is a quarantined row instead. Raises UserError when memory runs out with a
        single clip.
        """

        def draw(batch: Sequence[int], batch_size: int) -> _Drawn:
            return self._draw(
                [clip_ids[index] for index in batch], conditions.rows(slice(batch[0], batch[-1] + 1)), batch_size
            )

        batches = AdaptiveBatches(draw, size=self.clips_per_batch)
        waiting: deque[Future[ClipCandidates | QuarantinedRow]] = deque()
        with ThreadPoolExecutor(self._encoders, thread_name_prefix="flac") as pool:
            for drawn in batches.map(range(len(clip_ids))):
                self.clips_per_batch = batches.size
                waiting.extend(pool.submit(self._encode, drawn, clip) for clip in range(len(drawn.clip_ids)))
                # One batch is being encoded while the next is drawn; older ones are waited for.
                while len(waiting) > self.clips_per_batch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _draw(self, clip_ids: Sequence[str], conditions: Conditions, batch_size: int) -> _Drawn:
        latents = self._sampler.latents(clip_ids, conditions, batch_size=batch_size).to(LATENT_DTYPE)
        audio = self._sampler.audio(latents.float())
        if self._sampler.device.type != "cuda":
            return _Drawn(clip_ids, latents.cpu(), audio.cpu(), None)
        copies, arrived = (_start_copy(latents), _start_copy(audio)), torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self._sampler.device))
        return _Drawn(clip_ids, *copies, arrived)

    def _encode(self, drawn: _Drawn, clip: int) -> ClipCandidates | QuarantinedRow:
        if drawn.arrived is not None:
            drawn.arrived.synchronize()
        clip_id, audio_NS = drawn.clip_ids[clip], drawn.audio[clip]
        if not bool(torch.isfinite(audio_NS).all()):
            return QuarantinedRow(clip_id, "NonFiniteAudio", "the generator returned infinite or undefined samples")
        flac = [encode_flac(audio, self._sampler.model.sample_rate) for audio in audio_NS]
        return ClipCandidates(clip_id, drawn.latents[clip].numpy(), flac)


def _start_copy(tensor: Tensor) -> Tensor:
    """Page-locked host memory that the GPU fills while the program goes on."""
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
