"""Anti-aliased shapes drawn on all frames of a clip at once.

Coordinates run from 0 to 1, x to the right and y downwards.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
#: One value, or one per frame `[T]`; colours `[3]` or `[T, 3]` in 0 to 1.
Value: TypeAlias = ArrayLike


class Canvas:
    """A stack of `num_frames` square pictures of `size` pixels; later shapes cover earlier ones."""

    def __init__(self, background: Floats, num_frames: int) -> None:
        self.size = background.shape[0]
        self.pixels: Floats = np.repeat(background[None], num_frames, axis=0)
        self._centres: Floats = ((np.arange(self.size) + 0.5) / self.size).astype(np.float32)

    def ellipse(self, x: Value, y: Value, rx: Value, ry: Value, colour: Value, alpha: Value = 1.0) -> None:
        """Draws a filled ellipse with centre (x, y) and half axes rx, ry."""
        x, y, rx, ry = map(_per_frame, (x, y, rx, ry))
        rows, columns = self._window(x, y, rx, ry)
        dx, dy = (self._centres[columns] - x) / rx, (self._centres[rows, None] - y) / ry
        distance = (np.sqrt(dx * dx + dy * dy) - 1.0) * np.minimum(rx, ry)
        self._blend(rows, columns, distance, colour, alpha)

    def ring(self, x: Value, y: Value, radius: Value, width: Value, colour: Value, alpha: Value = 1.0) -> None:
        """Draws a circle's outline of the given stroke width."""
        x, y, radius, width = map(_per_frame, (x, y, radius, width))
        rows, columns = self._window(x, y, radius + width, radius + width)
        dx, dy = self._centres[columns] - x, self._centres[rows, None] - y
        distance = np.abs(np.sqrt(dx * dx + dy * dy) - radius) - width / 2
        self._blend(rows, columns, distance, colour, alpha)

    def box(self, x: Value, y: Value, half_width: Value, half_height: Value, colour: Value, alpha: Value = 1.0) -> None:
        """Draws a filled upright rectangle with centre (x, y)."""
        x, y, half_width, half_height = map(_per_frame, (x, y, half_width, half_height))
        rows, columns = self._window(x, y, half_width, half_height)
        dx = np.abs(self._centres[columns] - x) - half_width
        dy = np.abs(self._centres[rows, None] - y) - half_height
        self._blend(rows, columns, np.maximum(dx, dy), colour, alpha)

    def line(self, x0: Value, y0: Value, x1: Value, y1: Value, width: Value, colour: Value, alpha: Value = 1.0) -> None:
        """Draws a stroke with round ends from (x0, y0) to (x1, y1)."""
        x0, y0, x1, y1, width = map(_per_frame, (x0, y0, x1, y1, width))
        half_x, half_y = np.abs(x1 - x0) / 2 + width, np.abs(y1 - y0) / 2 + width
        rows, columns = self._window((x0 + x1) / 2, (y0 + y1) / 2, half_x, half_y)
        px, py = self._centres[columns] - x0, self._centres[rows, None] - y0
        vx, vy = x1 - x0, y1 - y0
        along = np.clip((px * vx + py * vy) / (vx * vx + vy * vy + 1e-9), 0.0, 1.0)
        dx, dy = px - along * vx, py - along * vy
        self._blend(rows, columns, np.sqrt(dx * dx + dy * dy) - width / 2, colour, alpha)

    def _window(self, x: Floats, y: Floats, half_width: Floats, half_height: Floats) -> tuple[slice, slice]:
        """The pixel rows and columns that the shape can touch in any frame."""
        margin = 2.0 / self.size

        def span(centre: Floats, half: Floats) -> slice:
            low, high = float((centre - half).min()) - margin, float((centre + half).max()) + margin
            first = min(max(int(low * self.size), 0), self.size)
            return slice(first, max(min(int(np.ceil(high * self.size)), self.size), first))

        return span(y, half_height), span(x, half_width)

    def _blend(self, rows: slice, columns: slice, distance: Floats, colour: Value, alpha: Value) -> None:
        coverage = np.clip(0.5 - distance * self.size, 0.0, 1.0) * _per_frame(alpha)
        target = self.pixels[:, rows, columns]
        paint = np.asarray(colour, dtype=np.float32)
        paint = paint[:, None, None] if paint.ndim == 2 else paint
        target += coverage[..., None] * (paint - target)

    def to_uint8(self) -> NDArray[np.uint8]:
        """The frames `[T, size, size, 3]` in 0-255."""
        return (np.clip(self.pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _per_frame(value: Value) -> Floats:
    """The value(s) as `[T, 1, 1]` or `[1, 1, 1]`, ready to broadcast over pixels."""
    return np.asarray(value, dtype=np.float32).reshape(-1, 1, 1)
