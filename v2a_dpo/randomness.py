"""Random numbers that belong to rows: the same row gets the same numbers whatever the sharding, batch or process."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def row_seed(seed: int, *key: str | int) -> int:
    """A 63-bit seed for the row named by `key`, for example `(clip_id, sample)`."""
    text = "\x1f".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def row_generator(seed: int, *key: str | int) -> torch.Generator:
    """A CPU generator for the row named by `key`; always on the CPU so that the device does not change the numbers."""
    return torch.Generator().manual_seed(row_seed(seed, *key))


def row_noise(shape: tuple[int, ...], seed: int, *key: str | int) -> Tensor:
    """Standard normal float32 noise of `shape` for the row named by `key`."""
    return torch.randn(shape, generator=row_generator(seed, *key))
