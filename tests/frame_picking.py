"""Which frames of a synthetic clip are taken, without a file."""

from __future__ import annotations

from collections.abc import Sequence

from v2a_dpo.media.video import FramePicker


def pick_frame_indices(times_s: Sequence[float], rate: float, end_s: float) -> list[int]:
    """The indices of the frames taken at `rate` from frames at `times_s` (rising, from 0), none later than `end_s`."""
    picker = FramePicker(rate)
    picked: list[int] = []
    for index, time_s in enumerate(times_s):
        if time_s <= end_s:
            before, count = picker.take(time_s)
            picked += [index - 1] * before + [index] * count
    return picked
