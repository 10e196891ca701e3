"""How many clips go through a generator at once: as many as the device is worth, fewer when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch

from v2a_dpo.flow import is_guided
from v2a_dpo.generation.sampler import CandidateSampler

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    wanted = -(-_SATURATING_TOKENS.get(device.type, _SATURATING_TOKENS["cuda"]) // tokens)
    if wanted == 1 or device.type != "cuda":
        return wanted
    return fitting_batch_size(wanted, bytes_per_clip=_bytes_per_clip(sampler), free_bytes=_free_bytes(device))


def fitting_batch_size(wanted: int, *, bytes_per_clip: int, free_bytes: int) -> int:
    """At most `wanted` clips, fewer where the batch's share of the free memory is smaller, never none."""
    return max(1, min(wanted, int(_MEMORY_SHARE * free_bytes) // max(1, bytes_per_clip)))


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


@dataclass(frozen=True)
class TooLarge(Generic[Item]):
    """An item that does not fit into memory even alone."""

    item: Item
    message: str


class AdaptiveBatches(Generic[Item, Result]):
    """Runs work on batches of at most `size` items and halves a batch for which memory runs out.

    A smaller size that proved necessary is kept for what follows. One that only a single impossible item asked for is not.
    """

    def __init__(self, work: Callable[[Sequence[Item], int], Result], *, size: int) -> None:
        self._work = work
        self.size = size

    def map(self, items: Sequence[Item]) -> Iterator[Result | TooLarge[Item]]:
        """The results of `work(batch, room)` for all items in their order; `room` is the size that batches have now."""
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            start += len(batch)
            yield from self._settle(batch, self.size)

    def _settle(self, batch: Sequence[Item], room: int) -> list[Result | TooLarge[Item]]:
        try:
            return [self._work(batch, room)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error)
        # Out of the except block: until here the error kept the failed batch's tensors alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return [TooLarge(batch[0], message)]
        half = -(-len(batch) // 2)
        settled = self._settle(batch[:half], half) + self._settle(batch[half:], half)
        if half < self.size and not any(isinstance(result, TooLarge) for result in settled):
            self.size = half
            _log.warning("Out of memory with %d clips at once; going on with %d.", len(batch), half)
        return settled


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU's or the machine's memory is full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")
    )
