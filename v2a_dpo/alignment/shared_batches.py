"""The batches of a run, and each process's share of them: the number of processes changes neither pairs nor noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2a_dpo.alignment.batch import PairBatch
from v2a_dpo.alignment.pairs_data import PairData
from v2a_dpo.alignment.processes import Processes
from v2a_dpo.alignment.schedule import VisitOrder
from v2a_dpo.artifacts.fingerprint import fingerprint

#: Limits of one validation: visits, taken from the first pairs, and visits per pair.
_VALIDATION_VISITS, _VISITS_PER_PAIR = 512, 4


class SharedBatches:
    """All batches by index: one per step of `order`, then those of the first `validation` pairs."""

    def __init__(
        self, pairs: PairData, order: VisitOrder, validation: np.ndarray, *, seed: int, processes: Processes
    ) -> None:
        steps, batch_size = order.pair.shape
        training = list(zip(order.pair, order.visit, strict=True))
        self._visits: list[tuple[np.ndarray, Any]] = [*training, *_validation_visits(validation, batch_size)]
        self._pairs = pairs
        self._seed = seed
        self._processes = processes
        self.sizes = [len(pair) for pair, _ in self._visits]
        self.validation = range(steps, len(self.sizes))

    @property
    def fingerprint(self) -> str:
        """A digest of all visits in order."""
        return fingerprint([[pair.tolist(), [str(number) for number in visit]] for pair, visit in self._visits])

    def local_batch(self, index: int) -> PairBatch:
        """This process's rows of a batch, on its device."""
        pair, visit = self._visits[index]
        rows = self._processes.local_slice(len(pair))
        return self._pairs.batch(pair[rows], visit[rows], seed=self._seed).to(self._processes.device)

    def local_rows(self, errors_2B: Tensor) -> Tensor:
        """The errors of this process's rows among those of a whole batch; winners first in both."""
        rows = self._processes.local_slice(len(errors_2B) // 2)
        return errors_2B.reshape(2, -1)[:, rows].flatten()

    def gather(self, local_errors: Tensor, index: int) -> Tensor:
        """The errors `[2B]` of a whole batch from each process's errors of its own rows."""
        errors = local_errors.new_zeros(2, self.sizes[index])
        errors[:, self._processes.local_slice(self.sizes[index])] = local_errors.detach().reshape(2, -1)
        return self._processes.all_reduce_sum(errors).flatten()

    @torch.no_grad()
    def evaluate(self, index: int, errors_of: Callable[[PairBatch], Tensor]) -> Tensor:
        """The errors `[2B]` of a whole batch; each process computes its own rows, which may be none."""
        rows = self._processes.local_slice(self.sizes[index])
        nothing = torch.zeros(0, device=self._processes.device)
        return self.gather(errors_of(self.local_batch(index)) if rows.start < rows.stop else nothing, index)


def _validation_visits(validation: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, list[str]]]:
    """Batches of validation visits: the same pairs, times and noises at every measurement."""
    pairs = validation[:_VALIDATION_VISITS]
    repeats = min(_VISITS_PER_PAIR, _VALIDATION_VISITS // max(len(pairs), 1))
    rows = np.tile(pairs, repeats)
    # "held out" is in the random seed of a visit's time and noise.
    names = [f"held out {repeat}" for repeat in range(repeats) for _ in pairs]
    starts = range(0, len(rows), batch_size)
    return [(rows[start : start + batch_size], names[start : start + batch_size]) for start in starts]
