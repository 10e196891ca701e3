"""The pictures of the tiny world: eight objects that move towards each event, strike, and flash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.tiny.canvas import Canvas, Floats
from v2a_dpo.tiny.world import COLOURS, FRAME_RATE, NUM_FRAMES, ClipEvents

#: Side of the square pictures in the mp4 files; the networks see them at 32.
VIDEO_SIZE = 96
NETWORK_SIZE = 32


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
