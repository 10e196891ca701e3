"""The progress of long loops: a callback `(description, done, total)`.

The command line draws bars, a pod of a workflow engine prints lines, every other caller is silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(description: str, done: int, total: int) -> None:
    """Shows nothing."""


class ProgressLines:
    """Prints a line at a loop's end, and before that at most one every `every_s` seconds, for a pod's log."""

    def __init__(self, *, every_s: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last_s = -every_s

    def __call__(self, description: str, done: int, total: int) -> None:
        """Prints the progress of the loop called `description` if a line is due."""
        now_s = self._clock()
        if done >= total or now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            print(f"{description}: {done} of {total}", flush=True)
