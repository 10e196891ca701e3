"""The frozen reference as two numbers per visit.

Time and noise of a visit depend on (seed, pair, visit) alone, so Flow-DPO needs only the reference's errors on the
winner and the loser of each visit. Before its first step the policy **is** the reference: these errors are computed
then, with the same batches as in training, and stored. So there is no second network in memory, a step costs one
forward pass less, and z is exactly 0 at step 0. Another run in the same log folder that differs only in beta or
learning rate reuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2a_dpo.alignment.processes import Processes
from v2a_dpo.artifacts.location import reported
from v2a_dpo.errors import UserError
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

    def complete(
        self, errors_of: Callable[[int], Tensor], *, processes: Processes, progress: Progress = silent
    ) -> None:
        """Computes the missing errors: `errors_of(batch)` for each batch in order, in every process.

        Only the main process has the file. After a kill only the current batch is lost: an incomplete batch at the end
        of the file is cut off. Raises UserError when the disk is full, or when an error is not finite.
        """
        done = processes.broadcast_result(self._cut)
        for batch in range(done, len(self._ends)):
            errors = errors_of(batch).cpu().numpy().astype(_DTYPE)
            if processes.is_main:
                with reported("written", self._path), self._path.open("ab") as file:
                    file.write(errors.tobytes())
            progress("Measuring the reference", batch + 1, len(self._ends))
        self._errors = processes.broadcast_result(lambda: np.fromfile(self._path, dtype=_DTYPE))
        if not np.isfinite(self._errors).all():
            raise UserError(
                "The base generator's velocity is not finite on some of these pairs.",
                where=str(self._path),
                remedy="Look for such values in the candidates' latents, in the conditions, and in the generator.",
            )

    def _cut(self) -> int:
        """Cuts an incomplete batch off the end of the file and returns the number of whole batches."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        stored = self._path.stat().st_size // _DTYPE.itemsize
        done = int(np.searchsorted(self._ends, stored, side="right"))
        with self._path.open("r+b") as file:
            file.truncate(int(self._ends[done - 1]) * _DTYPE.itemsize if done else 0)
        return done
