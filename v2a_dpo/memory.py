"""Memory that runs out: on a GPU or in the machine, and never the fault of the clip at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from v2a_dpo.errors import UserError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU's or the machine's memory is full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")
    )


@contextmanager
def memory_shortage_stops(work: str, *, remedy: str) -> Iterator[None]:
    """Turns memory that runs out inside into a UserError; `work` says where that was, `remedy` how to need less.

    Another program may hold the memory for a moment: no clip may be lost for it, so a stage stops, and goes on when run
    again.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"Memory ran out: {str(error) or type(error).__name__}",
            where=work,
            remedy=f"End what else takes memory there, or {remedy}; run again, and what is finished is kept.",
        ) from error
