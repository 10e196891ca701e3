"""Random numbers that belong to rows: the same for a row whatever the sharding, batch, process or device."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def row_seed(seed: int, *key: str | int) -> int:
    """The seed of the row named by `key`, for example `(clip_id, sample)`: 63 bits, so that it fits a signed column."""
    text = "\x1f".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def row_generator(seed: int, *key: str | int) -> np.random.Generator:
    """A generator for the row named by `key`.

    Philox uses every bit of the seed as its key, and the streams of different keys are independent by construction;
    torch's own generator on a CPU keeps 32 bits: of 250,000 rows about seven pairs would share their numbers.
    """
    return np.random.Generator(np.random.Philox(key=row_seed(seed, *key)))


def normal(shape: tuple[int, ...], generator: np.random.Generator) -> Tensor:
    """Standard normal float32 numbers of `shape`, drawn on the CPU so that the device does not change them."""
    return _tensor(generator.standard_normal(shape, dtype=np.float32))


def uniform(shape: tuple[int, ...], generator: np.random.Generator) -> Tensor:
    """Uniform float32 numbers of `shape` in [0, 1), drawn on the CPU so that the device does not change them."""
    return _tensor(generator.random(shape, dtype=np.float32))


def row_noise(shape: tuple[int, ...], seed: int, *key: str | int) -> Tensor:
    """Standard normal float32 noise of `shape` for the row named by `key`."""
    return normal(shape, row_generator(seed, *key))


def _tensor(numbers: np.ndarray) -> Tensor:
    import torch  # its import takes seconds, and who only needs seeds needs no tensors

    return torch.from_numpy(numbers)
