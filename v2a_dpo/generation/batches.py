"""Clips per batch: as many as the device computes efficiently, fewer when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from v2a_dpo.flow import is_guided
from v2a_dpo.generation.sampler import CandidateSampler
from v2a_dpo.memory import is_out_of_memory, memory_shortage_stops

Item = TypeVar("Item")
BatchResult = TypeVar("BatchResult")

#: Latent steps in one forward pass, by kind of device, past which a larger batch is no faster.
_SATURATING_TOKENS = {"cpu": 4096, "cuda": 32_768}
#: Share of a GPU's free memory for the batch; the codec and the compiler need the rest.
_MEMORY_SHARE = 0.7

_log = logging.getLogger(__name__)


def automatic_batch_size(sampler: CandidateSampler) -> int:
    """The number of clips that saturate the sampler's device, or what fits into a GPU's free memory if that is fewer.

    The memory of one clip is measured with one step. On a CPU the saturating batch is small and nothing is measured.
    """
    settings, device = sampler.settings, sampler.device
    tokens = sampler.latent_shape[0] * settings.candidates * (2 if is_guided(settings.guidance_scale) else 1)
    saturating = -(-_SATURATING_TOKENS.get(device.type, _SATURATING_TOKENS["cuda"]) // tokens)
    if saturating == 1 or device.type != "cuda":
        return saturating
    return fitting_batch_size(saturating, bytes_per_clip=_bytes_per_clip(sampler), free_bytes=_free_bytes(device))


def fitting_batch_size(largest: int, *, bytes_per_clip: int, free_bytes: int) -> int:
    """At most `largest` clips, fewer where the batch's share of the free memory is smaller, at least one."""
    return max(1, min(largest, int(_MEMORY_SHARE * free_bytes) // max(1, bytes_per_clip)))


def _bytes_per_clip(sampler: CandidateSampler) -> int:
    model, duration_s = sampler.model, sampler.duration_s
    settings = replace(sampler.settings, steps=1)
    probe = CandidateSampler(model, settings, duration_s=duration_s, precision=sampler.precision)
    conditions = model.empty_conditions(duration_s).to("cpu")
    before = torch.cuda.memory_allocated(sampler.device)
    torch.cuda.reset_peak_memory_stats(sampler.device)
    probe.latents([""], conditions)
    return torch.cuda.max_memory_allocated(sampler.device) - before


def _free_bytes(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class AdaptiveBatches(Generic[Item, BatchResult]):
    """Runs work on batches of at most `size` items and halves a batch for which memory runs out.

    A smaller size that proved necessary is kept for what follows.
    """

    def __init__(self, work: Callable[[Sequence[Item], int], BatchResult], *, size: int) -> None:
        self._work = work
        self.size = size

    def map(self, items: Sequence[Item]) -> Iterator[BatchResult]:
        """The results of `work(batch, batch_size)` for all items in order; `batch_size` is the current size of batches.

        Raises UserError when memory runs out with a single item: another program may hold it, so the item is not to
        blame.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            start += len(batch)
            yield from self._settle(batch, self.size)

    def _settle(self, batch: Sequence[Item], batch_size: int) -> list[BatchResult]:
        if len(batch) == 1:
            with memory_shortage_stops("one clip at a time", remedy="choose a device with more of it"):
                return [self._work(batch, batch_size)]
        try:
            return [self._work(batch, batch_size)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Out of the except block: until here the error kept the failed batch's tensors alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = -(-len(batch) // 2)
        settled = self._settle(batch[:half], half) + self._settle(batch[half:], half)
        if half < self.size:
            self.size = half
            _log.warning("Out of memory with %d clips at once; going on with %d.", len(batch), half)
        return settled
