"""The frozen reference as two numbers a visit.

Time and noise of a visit belong to (seed, pair, visit), so all that Flow-DPO ever needs of the reference is its error on
the winner and on the loser of each visit. Before its first step the policy **is** the reference: these errors are computed
then, with the very batches that training will see, and stored. So there is no second network in memory, a step costs one
forward pass less, z is exactly 0 at step 0, and another run that differs in beta or learning rate alone finds them ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_dpo.progress import Progress, silent

_DTYPE = np.dtype("<f4")


class ReferenceErrors:
    """The reference's errors of a list of batches, `[2B]` each, winners first, in one append-only file."""

    def __init__(self, path: Path, batch_sizes: Sequence[int]) -> None:
        self._path = path
        self._ends = np.cumsum([2 * size for size in batch_sizes])
        self._errors = np.empty(0, dtype=_DTYPE)

    def __getitem__(self, batch: int) -> Tensor:
        """The errors `[2B]` of a batch on the CPU."""
        start = self._ends[batch - 1] if batch else 0
        return torch.from_numpy(self._errors[start : self._ends[batch]])

    def complete(self, errors_of: Callable[[int], Tensor], *, progress: Progress = silent) -> None:
        """Computes what the file lacks, `errors_of(batch)` for each batch in order.

        A kill at any moment costs the batch under way: a part of a batch at the end of the file is cut off.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        stored = self._path.stat().st_size // _DTYPE.itemsize
        done = int(np.searchsorted(self._ends, stored, side="right"))
        with self._path.open("r+b") as file:
            file.truncate(int(self._ends[done - 1]) * _DTYPE.itemsize if done else 0)
            file.seek(0, 2)
            for batch in range(done, len(self._ends)):
                file.write(errors_of(batch).cpu().numpy().astype(_DTYPE).tobytes())
                file.flush()
                progress("Measuring the reference", batch + 1, len(self._ends))
        self._errors = np.fromfile(self._path, dtype=_DTYPE)
