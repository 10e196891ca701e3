"""Out of memory, on a GPU or in the machine: never the fault of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from v2a_dpo.errors import UserError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that a GPU's or the machine's memory is full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")
    )


@contextmanager
def memory_shortage_stops(work: str, *, remedy: str) -> Iterator[None]:
    """Turns out-of-memory errors in the block into a UserError; `work` is its place, `remedy` a way to need less.

    Another program may hold the memory for a moment. No clip may be lost for that, so a stage stops, and goes on when
    run again.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"Memory ran out: {str(error) or type(error).__name__}",
            where=work,
            remedy=f"End other programs that use memory there, or {remedy}; run again, and finished work is kept.",
        ) from error
