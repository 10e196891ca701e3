"""Visit order and learning rate, both pure functions of the step, so that resuming is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from v2a_dpo.preference.pairs import EASY, HARD
from v2a_dpo.randomness import row_generator, row_seed


@dataclass(frozen=True)
class VisitOrder:
    """The `pair` of each batch row and the number of its earlier visits (`visit`), `[steps, batch]` each.

    `steps_by_phase` are the numbers of steps of the phases, in order.
    """

    pair: np.ndarray
    visit: np.ndarray
    steps_by_phase: dict[str, int]

    def phase(self, step: int) -> str:
        """The name of the phase that `step` belongs to."""
        for name, steps in self.steps_by_phase.items():
            if step < steps:
                return name
            step -= steps
        raise IndexError("the order has fewer steps")


def split_pairs(clip_id: list[str], *, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the validation pairs: whole clips by a seeded hash, at least one for training.

    A positive `share` takes at least one clip when there are two. The validation pairs come in the order of the hash,
    so that any first part of them is a fair sample of all pairs, however the pairs are ordered.
    """
    # "held out" names a random stream: another name would be another split.
    clips = sorted(set(clip_id), key=lambda clip: row_seed(seed, "align", "held out", clip))
    num_validation = min(max(round(share * len(clips)), int(share > 0)), len(clips) - 1)
    place = {clip: index for index, clip in enumerate(clips)}
    place_of_pair = np.array([place[clip] for clip in clip_id])
    by_hash = np.argsort(place_of_pair, kind="stable")
    return np.flatnonzero(place_of_pair >= num_validation), by_hash[place_of_pair[by_hash] < num_validation]


def visit_order(
    phase_of_pair: np.ndarray, training: np.ndarray, *, steps: int, batch_size: int, seed: int, curriculum: bool
) -> VisitOrder:
    """The visits of a whole training run over the pairs in `training`.

    With `curriculum` all steps on easy pairs come before all steps on hard ones, and the phases share the steps in
    proportion to their pairs (the paper: 81% easy), so each pair is visited about equally often. Without, one phase
    `all` holds every pair. Inside a phase, epochs follow each other, each shuffled by its own seed; a batch may
    straddle two.
    """
    phases = {"all": training}
    if curriculum:
        phases = {name: training[phase_of_pair[training] == name] for name in (EASY, HARD)}
    steps_by_phase = _share_steps({name: len(pairs) for name, pairs in phases.items()}, steps)
    visits = [
        visit
        for name, phase_steps in steps_by_phase.items()
        for visit in islice(_epochs(phases[name], seed, name), phase_steps * batch_size)
    ]
    pair, visit = np.array(visits, dtype=np.int64).reshape(steps, batch_size, 2).transpose(2, 0, 1)
    return VisitOrder(pair, visit, steps_by_phase)


def _share_steps(pairs: dict[str, int], steps: int) -> dict[str, int]:
    """Steps in proportion to pairs: at least one for each phase that has pairs, while there are steps."""
    present = [name for name, count in pairs.items() if count]
    total = sum(pairs.values())
    shares: dict[str, int] = {}
    for index, name in enumerate(present):
        left = steps - sum(shares.values())
        phases_after = len(present) - index - 1
        share = left if not phases_after else max(round(steps * pairs[name] / total), 1)
        shares[name] = max(min(share, left - phases_after), 0)
    return shares


def _epochs(pairs: np.ndarray, seed: int, phase: str) -> Iterator[tuple[int, int]]:
    for epoch in count():
        for pair in row_generator(seed, "align", "order", phase, epoch).permutation(pairs).tolist():
            yield pair, epoch


def learning_rate(step: int, *, peak: float, warmup_steps: int) -> float:
    """The learning rate of `step` (from 0): linear from peak / warmup_steps up to `peak`, constant afterwards."""
    return peak * min(1.0, (step + 1) / max(warmup_steps, 1))
