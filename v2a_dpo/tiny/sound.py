"""The sounds of the tiny world: one synthesiser per class, whole clips, and damaged recordings for pre-training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.tiny.world import DURATION_S, NUM_SAMPLES, SAMPLE_RATE, ClipEvents, DamageRates, damage_events

Samples = NDArray[np.float32]
EVENT_DURATION_S = 0.36
#: Root mean square of the faint room noise under every clip; a full event peaks near 0.6.
ROOM_NOISE_RMS = 0.0015
_TIME_S = np.arange(int(EVENT_DURATION_S * SAMPLE_RATE)) / SAMPLE_RATE


def _decay(tau_s: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-_TIME_S / tau_s), dtype=np.float64)


def _plateau(duration_s: float) -> NDArray[np.float64]:
    """An envelope with a 5 ms attack and a 60 ms release, so that the end of a sound is never mistaken for an onset."""
    attack, release = np.clip(_TIME_S / 0.005, 0.0, 1.0), np.clip((duration_s - _TIME_S) / 0.06, 0.0, 1.0)
    return np.asarray(attack * release, dtype=np.float64)


def _tone(frequency_hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(frequency_hz, float):
        return np.sin(2 * np.pi * frequency_hz * _TIME_S)
    return np.sin(2 * np.pi * np.cumsum(frequency_hz) / SAMPLE_RATE)


def _drum(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    sweep_hz = pitch * (95.0 + 150.0 * np.exp(-_TIME_S / 0.03))
    return _tone(sweep_hz) * _decay(0.10) + 0.25 * generator.standard_normal(_TIME_S.size) * _decay(0.012)


def _bell(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    ratios_weights = ((1.0, 1.0), (2.0, 0.6), (2.76, 0.5), (4.07, 0.35), (5.4, 0.25))
    phases = generator.uniform(0, 2 * np.pi, len(ratios_weights))
    partials = [
        weight * np.sin(2 * np.pi * 620.0 * pitch * ratio * _TIME_S + phase) * _decay(0.22 / ratio**0.5)
        for (ratio, weight), phase in zip(ratios_weights, phases, strict=True)
    ]
    return np.sum(partials, axis=0)


def _woodblock(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    click = generator.standard_normal(_TIME_S.size) * _decay(0.003)
    return (_tone(900.0 * pitch) + 0.6 * _tone(2340.0 * pitch)) * _decay(0.022) + 0.5 * click


def _water(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    rise_hz = pitch * (450.0 + 1500.0 * np.clip(_TIME_S / 0.14, 0.0, 1.0) ** 1.5)
    return _tone(rise_hz) * _plateau(0.17) * generator.uniform(0.9, 1.0)


def _glass(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    frequencies_hz = np.minimum(np.array([2700.0, 3400.0, 4300.0, 5200.0]) * pitch, 7600.0)
    ring = sum(
        _tone(float(frequency)) * _decay(tau)
        for frequency, tau in zip(frequencies_hz, (0.09, 0.07, 0.06, 0.05), strict=True)
    )
    noise = generator.standard_normal(_TIME_S.size)
    return np.asarray(0.35 * ring + 0.5 * np.diff(noise, prepend=0.0) * _decay(0.035))


def _bird(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    warble = np.sin(2 * np.pi * 22.0 * _TIME_S + generator.uniform(0, 0.6))
    return _tone(2300.0 * pitch * (1.0 + 0.13 * warble)) * _plateau(0.24)


def _horn(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    base_hz = 300.0 * pitch * generator.uniform(0.995, 1.005)
    harmonics = sum(_tone(base_hz * interval * k) / k**0.8 for interval in (1.0, 1.26) for k in range(1, 8))
    return np.asarray(harmonics * _plateau(0.28))


def _filtered(numerator: list[float], denominator: list[float], signal: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.signal import lfilter  # its import takes a second, and most stages make no sound

    return np.asarray(lfilter(numerator, denominator, signal))


def _voice(pitch: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A vowel: a falling glottal pulse train through three formant resonators."""
    base_hz = 165.0 * pitch * (1.08 - 0.5 * _TIME_S)
    phase = np.cumsum(base_hz) / SAMPLE_RATE
    signal = np.diff(np.floor(phase), prepend=0.0) + 0.01 * generator.standard_normal(_TIME_S.size)
    formants_hz = ((730.0, 1090.0, 2440.0), (500.0, 1800.0, 2500.0), (450.0, 850.0, 2400.0))[int(generator.integers(3))]
    for frequency_hz, bandwidth_hz in zip(formants_hz, (90.0, 110.0, 160.0), strict=True):
        radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
        angle = 2 * np.pi * frequency_hz / SAMPLE_RATE
        signal = _filtered([1.0 - radius], [1.0, -2 * radius * np.cos(angle), radius**2], signal)
    return np.asarray(signal * _plateau(0.30))


_SYNTHESISERS: Mapping[str, Callable[[float, np.random.Generator], NDArray[np.float64]]] = {
    "drum": _drum,
    "bell": _bell,
    "woodblock": _woodblock,
    "water": _water,
    "glass": _glass,
    "bird": _bird,
    "horn": _horn,
    "voice": _voice,
}


def event_sound(label: str, pitch: float, generator: np.random.Generator) -> Samples:
    """One event of class `label`, `EVENT_DURATION_S` long, with peak 0.6, faded to silence at its end."""
    sound = _SYNTHESISERS[label](pitch, generator)
    sound = sound * np.clip((EVENT_DURATION_S - _TIME_S) / 0.03, 0.0, 1.0)
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)


def render_audio(events: ClipEvents, *, start_s: float = 0.0, duration_s: float = DURATION_S) -> Samples:
    """The clip's true sound from `start_s` on, in [-1, 1] at 16 kHz; a longer window shows quiet room noise around
    it."""
    generator = np.random.default_rng([events.appearance_seed, 1])
    num_samples = round(duration_s * SAMPLE_RATE)
    audio = (ROOM_NOISE_RMS * generator.standard_normal(num_samples)).astype(np.float32)
    for time_s in events.event_times_s:
        gain = 10.0 ** (generator.uniform(-4.0, 0.0) / 20.0)
        sound = event_sound(events.label, events.pitch, generator) * np.float32(gain)
        first = round((time_s - start_s) * SAMPLE_RATE)
        source = sound[max(-first, 0) : max(num_samples - first, 0)]
        begin = max(first, 0)
        audio[begin : begin + source.size] += source
    return np.clip(audio, -1.0, 1.0)


def coloured_noise(generator: np.random.Generator, *, num_samples: int = NUM_SAMPLES) -> Samples:
    """Broadband noise of root mean square 1 whose spectrum tilts by a random amount between white and brownish."""
    tilt = generator.uniform(0.0, 0.9)
    noise = _filtered([1.0], [1.0, -tilt], generator.standard_normal(num_samples))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def render_damaged_audio(events: ClipEvents, generator: np.random.Generator, rates: DamageRates) -> Samples:
    """A recording of the clip for pre-training, damaged at `rates`; by chance some have no damage."""
    audio = render_audio(damage_events(events, generator, rates))
    if generator.uniform() < rates.noisy:
        audio = audio + coloured_noise(generator) * np.float32(10.0 ** generator.uniform(-1.9, -1.1))
    return np.clip(audio, -1.0, 1.0)
