"""The pictures of the tiny world: eight objects that move towards each event, strike, and flash.

Anti-aliased shapes are drawn on all frames of a clip at once. Coordinates run from 0 to 1, x to the right, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2a_dpo.tiny.world import COLOURS, FRAME_RATE, NUM_FRAMES, ClipEvents

Floats = NDArray[np.float32]
#: One value, or one per frame `[T]`; colours `[3]` or `[T, 3]` in 0 to 1.
Value: TypeAlias = ArrayLike
#: Side of the square pictures in the mp4 files; the networks see them at 32.
VIDEO_SIZE = 96
NETWORK_SIZE = 32


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


@dataclass(frozen=True)
class Scene:
    """What a drawing function needs: place, scale, colours, and how near each frame is to its closest event."""

    x: float
    y: float
    scale: float
    colour: Floats
    dark: Floats
    #: 0 at an event, 1 when the closest one is a quarter of a second or more away, per frame.
    distance: Floats
    #: 1 right after an event, fading within a tenth of a second, per frame.
    flash: Floats
    #: Time since the last event in s (large before the first), per frame.
    age_s: Floats

    def lit(self, amount: float = 0.8) -> Floats:
        """The object's colour per frame `[T, 3]`, brightened while the flash lasts."""
        return self.colour + (amount * self.flash)[:, None] * (1.0 - self.colour)


_INK = np.array([0.08, 0.08, 0.10], dtype=np.float32)
_LIGHT = np.array([1.0, 0.97, 0.85], dtype=np.float32)


def _draw_drum(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    canvas.box(x, y + 0.5 * s, s, 0.45 * s, scene.dark)
    canvas.ellipse(x, y + 0.95 * s, s, 0.25 * s, scene.dark)
    canvas.ellipse(x, y + 0.05 * s, s, 0.3 * s, scene.lit())
    lift = 0.75 * s * scene.distance
    canvas.line(x + 1.3 * s, y - 0.5 * s - lift, x + 0.15 * s, y - lift, 0.14 * s, _INK)
    canvas.ring(x, y, s * (0.4 + 5.0 * scene.age_s.clip(0, 0.25)), 0.1 * s, _LIGHT, scene.flash)


def _draw_bell(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x + 0.5 * scene.scale * (scene.distance - 0.5), scene.y, scene.scale
    canvas.ellipse(x, y - 0.2 * s, 0.6 * s, 0.75 * s, scene.lit())
    canvas.box(x, y + 0.35 * s, 0.8 * s, 0.28 * s, scene.lit())
    canvas.ellipse(x, y + 0.8 * s, 0.2 * s, 0.2 * s, _INK)
    for number in (1, 2):
        canvas.ring(x, y, s * (0.7 * number + 3.0 * scene.age_s.clip(0, 0.3)), 0.09 * s, _LIGHT, scene.flash)


def _draw_woodblock(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    canvas.box(x, y + 0.5 * s, 1.1 * s, 0.35 * s, scene.lit())
    lift = 1.1 * s * scene.distance
    canvas.box(x, y - 0.1 * s - lift, 0.35 * s, 0.25 * s, scene.dark)
    canvas.box(x, y - 0.7 * s - lift, 0.09 * s, 0.5 * s, _INK)
    for side in (-1.0, 1.0):
        reach = side * s * (0.7 + 3.0 * scene.age_s.clip(0, 0.2))
        canvas.line(x + side * 0.5 * s, y + 0.1 * s, x + reach, y - 0.25 * s, 0.1 * s, _LIGHT, scene.flash)


def _draw_water(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    pool = np.array([0.20, 0.45, 0.70], dtype=np.float32)
    canvas.ellipse(x, y + 0.7 * s, 1.4 * s, 0.45 * s, pool)
    spread = s * (0.2 + 4.0 * scene.age_s.clip(0, 0.25))
    canvas.ellipse(x, y + 0.7 * s, spread, 0.32 * spread, _LIGHT, scene.flash)
    fall = y + 0.6 * s - 1.8 * s * scene.distance
    canvas.ellipse(x, fall, 0.28 * s, 0.36 * s, scene.colour, (scene.age_s > 0.25) | (scene.age_s < 0.05))


def _draw_glass(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    canvas.box(x, y, 0.9 * s, 1.0 * s, 0.5 * scene.colour + 0.4)
    canvas.box(x, y, 0.75 * s, 0.85 * s, scene.lit(1.0), 0.8)
    offset = 1.5 * s * scene.distance
    canvas.ellipse(x - offset, y - 0.4 * offset, 0.25 * s, 0.25 * s, _INK)
    for angle in np.linspace(0.3, 2 * np.pi + 0.3, 6)[:-1]:
        reach = s * (0.3 + 4.0 * scene.age_s.clip(0, 0.25))
        canvas.line(x, y, x + np.cos(angle) * reach, y + np.sin(angle) * reach, 0.08 * s, _INK, scene.flash)


def _draw_bird(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    canvas.ellipse(x, y + 0.2 * s, 0.9 * s, 0.6 * s, scene.lit(0.4))
    canvas.ellipse(x + 0.7 * s, y - 0.4 * s, 0.42 * s, 0.42 * s, scene.lit(0.4))
    canvas.ellipse(x - 0.1 * s, y + 0.1 * s, 0.5 * s, s * (0.15 + 0.4 * scene.distance), scene.dark)
    gape = 0.32 * s * (1.0 - scene.distance)
    for side in (-1.0, 1.0):
        canvas.line(x + 1.05 * s, y - 0.38 * s, x + 1.5 * s, y - 0.38 * s + side * gape, 0.14 * s, _LIGHT)
    canvas.ellipse(x + 0.78 * s, y - 0.5 * s, 0.09 * s, 0.09 * s, _INK)
    canvas.ring(x + 1.4 * s, y - 0.4 * s, s * (0.2 + 3.0 * scene.age_s.clip(0, 0.3)), 0.09 * s, _LIGHT, scene.flash)


def _draw_horn(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x + 0.12 * scene.scale * scene.flash, scene.y, scene.scale
    canvas.box(x, y + 0.25 * s, 1.3 * s, 0.4 * s, scene.colour)
    canvas.ellipse(x - 0.1 * s, y - 0.1 * s, 0.75 * s, 0.55 * s, scene.dark)
    for side in (-0.7, 0.7):
        canvas.ellipse(x + side * s, y + 0.65 * s, 0.3 * s, 0.3 * s, _INK)
    glow = np.clip(1.0 - scene.distance, 0.0, 1.0)
    canvas.ellipse(
        x + 1.25 * s, y + 0.2 * s, s * (0.15 + 0.3 * glow), s * (0.15 + 0.3 * glow), _LIGHT, 0.3 + 0.7 * scene.flash
    )


def _draw_voice(canvas: Canvas, scene: Scene) -> None:
    x, y, s = scene.x, scene.y, scene.scale
    skin = 0.35 * scene.colour + 0.65 * np.array([0.93, 0.75, 0.62], dtype=np.float32)
    canvas.ellipse(x, y - 0.25 * s, 1.0 * s, 1.1 * s, scene.dark)
    canvas.ellipse(x, y, 0.85 * s, 1.05 * s, skin + (0.5 * scene.flash)[:, None] * (1.0 - skin))
    for side in (-0.35, 0.35):
        canvas.ellipse(x + side * s, y - 0.25 * s, 0.12 * s, 0.12 * s, _INK)
    opening = np.maximum(1.0 - scene.distance, scene.flash)
    canvas.ellipse(x, y + 0.5 * s, 0.32 * s, s * (0.05 + 0.33 * opening), np.array([0.45, 0.05, 0.08]))


_DRAWERS: Mapping[str, Callable[[Canvas, Scene], None]] = {
    "drum": _draw_drum,
    "bell": _draw_bell,
    "woodblock": _draw_woodblock,
    "water": _draw_water,
    "glass": _draw_glass,
    "bird": _draw_bird,
    "horn": _draw_horn,
    "voice": _draw_voice,
}


def _background(generator: np.random.Generator, size: int) -> Floats:
    """A still wall and floor in muted colours with a few soft spots, so that pictures differ beyond the object."""
    wall, floor, spot = (
        generator.uniform(low, high, 3).astype(np.float32) for low, high in ((0.2, 0.5), (0.15, 0.4), (0.2, 0.6))
    )
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    horizon = np.float32(generator.uniform(0.6, 0.8))
    mix = np.clip((axis[:, None, None] - horizon) * size + 0.5, 0.0, 1.0)
    picture = (wall * (1.0 - mix) + floor * mix) * (0.85 + 0.3 * axis[None, :, None])
    for _ in range(3):
        x, y, radius = generator.uniform(0, 1), generator.uniform(0, 0.6), generator.uniform(0.05, 0.15)
        weight = 0.5 * np.exp(-(((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / radius**2))[..., None]
        picture = picture * (1 - weight) + spot * weight
    return np.asarray(picture, dtype=np.float32)


def render_frames(events: ClipEvents, *, size: int = VIDEO_SIZE, num_frames: int = NUM_FRAMES) -> NDArray[np.uint8]:
    """The clip's frames `[T, size, size, 3]` at 25 fps; frame i shows the moment i / 25 s."""
    generator = np.random.default_rng([events.appearance_seed, 2])
    colour_name = next(word for word in events.prompt.split() if word in COLOURS)
    colour = np.array(COLOURS[colour_name], dtype=np.float32)
    moments_s = np.arange(num_frames, dtype=np.float64) / FRAME_RATE
    since_s = moments_s[:, None] - np.asarray(events.event_times_s, dtype=np.float64)[None, :]
    age_s = np.where(since_s >= 0.0, since_s, 10.0).min(axis=1)
    scene = Scene(
        x=generator.uniform(0.36, 0.64),
        y=generator.uniform(0.44, 0.58),
        scale=0.11 + 0.14 * events.size,
        colour=colour,
        dark=0.45 * colour,
        distance=np.clip(np.abs(since_s).min(axis=1) / 0.25, 0.0, 1.0).astype(np.float32),
        flash=np.exp(-age_s / 0.08).astype(np.float32),
        age_s=age_s.astype(np.float32),
    )
    canvas = Canvas(_background(generator, size), num_frames)
    _DRAWERS[events.label](canvas, scene)
    return canvas.to_uint8()
