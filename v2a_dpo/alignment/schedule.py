"""Which pair is visited when, and how fast the model learns: everything a function of the step alone, so that resuming
is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from v2a_dpo.preference.pairs import EASY, HARD
from v2a_dpo.randomness import row_generator, row_seed


@dataclass(frozen=True)
class VisitOrder:
    """For every step: the `pair` of each batch row and how often it was visited before (`visit`), `[steps, batch]`.

    `steps_by_phase` are the steps of each phase, in order.
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
    """Indices of the training and the validation pairs: whole clips by a seeded hash of the clip id, at least one for
    training.

    A positive `share` takes at least one clip when there are two. The validation pairs come in the order of the hash,
    so that any first part of them is a fair sample of all pairs, however the pairs are ordered.
    """
    clips = sorted(set(clip_id), key=lambda clip: row_seed(seed, "align", "held out", clip))
    count = min(max(round(share * len(clips)), int(share > 0)), len(clips) - 1)
    place = {clip: index for index, clip in enumerate(clips)}
    place_of_pair = np.array([place[clip] for clip in clip_id])
    by_hash = np.argsort(place_of_pair, kind="stable")
    return np.flatnonzero(place_of_pair >= count), by_hash[place_of_pair[by_hash] < count]


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
    pair = np.empty((steps, batch_size), dtype=np.int64)
    visit = np.empty((steps, batch_size), dtype=np.int64)
    start = 0
    for name, count in steps_by_phase.items():
        stream = _epochs(phases[name], seed, name)
        for step in range(start, start + count):
            for row in range(batch_size):
                pair[step, row], visit[step, row] = next(stream)
        start += count
    return VisitOrder(pair, visit, steps_by_phase)


def _share_steps(pairs: dict[str, int], steps: int) -> dict[str, int]:
    """Steps in proportion to pairs; a phase with pairs gets at least one while there are steps, one without gets
    none."""
    present = [name for name, count in pairs.items() if count]
    total = sum(pairs.values())
    shares: dict[str, int] = {}
    for index, name in enumerate(present):
        left = steps - sum(shares.values())
        phases_after = len(present) - index - 1
        wanted = left if not phases_after else max(round(steps * pairs[name] / total), 1)
        shares[name] = max(min(wanted, left - phases_after), 0)
    return shares


def _epochs(pairs: np.ndarray, seed: int, phase: str) -> Iterator[tuple[int, int]]:
    epoch = 0
    while True:
        shuffled = row_generator(seed, "align", "order", phase, epoch).permutation(pairs)
        for pair in shuffled.tolist():
            yield pair, epoch
        epoch += 1


def learning_rate(step: int, *, peak: float, warmup_steps: int) -> float:
    """The learning rate of `step` (from 0): linear from peak / warmup_steps up to `peak`, constant afterwards."""
    return peak * min(1.0, (step + 1) / max(warmup_steps, 1))
