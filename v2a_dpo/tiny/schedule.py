"""The learning-rate schedule of pre-training."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, *, warmup: float = 0.2, floor: float = 0.01) -> float:
    """The factor on the peak learning rate before step `step` of `steps`: up a line, then down half a cosine to
    `floor`."""
    rise = max(round(steps * warmup), 1)
    if step < rise:
        return (step + 1) / rise
    fall = (step - rise) / max(steps - rise, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fall))
