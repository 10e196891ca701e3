"""How long loops tell that they move: a callback `(description, done, total)`, drawn by the command line, silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(description: str, done: int, total: int) -> None:
    """Shows nothing."""
