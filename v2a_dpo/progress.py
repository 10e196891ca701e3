"""How long loops tell that they move: a callback `(description, done, total)`.

The command line draws bars, a workflow engine's pod prints lines, everything else is silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(description: str, done: int, total: int) -> None:
    """Shows nothing."""


class ProgressLines:
    """Prints a line for a loop's end, and on the way at most one every `every_s` seconds: what a pod's log should
    hold."""

    def __init__(self, *, every_s: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last_s = -every_s

    def __call__(self, description: str, done: int, total: int) -> None:
        """Prints how far the loop called `description` is, if it is time to."""
        now_s = self._clock()
        if done >= total or now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            print(f"{description}: {done} of {total}", flush=True)
