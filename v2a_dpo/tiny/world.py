"""The events in the clips of the tiny world: classes, event times, pitch, prompts; no pixels and no samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np

from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.errors import UserError

DURATION_S = 2.0
SAMPLE_RATE = 16_000
FRAME_RATE = 25
NUM_SAMPLES = int(DURATION_S * SAMPLE_RATE)
NUM_FRAMES = int(DURATION_S * FRAME_RATE)

FIRST_EVENT_S, LAST_EVENT_S = 0.12, 1.68
MIN_EVENT_GAP_S = 0.32
MAX_EVENTS = 4
#: The largest object sounds half of this many octaves below its class's nominal pitch, the smallest as much above.
PITCH_RANGE_OCTAVES = 1.4

#: Class label -> its verb in the prompt.
VERBS: Mapping[str, str] = {
    "drum": "beating",
    "bell": "ringing",
    "woodblock": "knocking",
    "water": "dripping",
    "glass": "breaking",
    "bird": "chirping",
    "horn": "honking",
    "voice": "speaking",
}
CLASSES = tuple(VERBS)
SPEECH_CLASSES = frozenset({"voice"})
COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.85, 0.22, 0.20),
    "orange": (0.93, 0.55, 0.16),
    "yellow": (0.92, 0.82, 0.25),
    "green": (0.25, 0.68, 0.35),
    "blue": (0.25, 0.45, 0.88),
    "purple": (0.60, 0.35, 0.80),
    "white": (0.90, 0.90, 0.92),
}
_SIZES = ("tiny", "small", "medium", "large", "huge")
_COUNTS = ("once", "twice", "three times", "four times")
_PLACES = ("in a room", "in the street", "in the garden", "on a stage", "at night", "at home")
_PADDING, _UNKNOWN = "<pad>", "<unknown>"


def _vocabulary() -> tuple[str, ...]:
    phrases = ["a", *CLASSES, *VERBS.values(), *COLOURS, *_SIZES, *_COUNTS, *_PLACES]
    return (_PADDING, _UNKNOWN, *sorted({word for phrase in phrases for word in phrase.split()}))


VOCABULARY = _vocabulary()
MAX_PROMPT_WORDS = 10


def tokenize(prompt: str) -> list[int]:
    """The prompt's word numbers in `VOCABULARY`, cut or padded with 0 to `MAX_PROMPT_WORDS`; unknown words become 1."""
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    words = prompt.lower().replace(",", " ").split()[:MAX_PROMPT_WORDS]
    tokens = [numbers.get(word, 1) for word in words]
    return tokens + [0] * (MAX_PROMPT_WORDS - len(tokens))


@dataclass(frozen=True)
class ClipEvents:
    """What happens in one clip. Only the renderers and the simulated rater read it.

    `pitch` is the factor on the class's nominal pitch; `size` in [0, 1] is the object's and determines it.
    """

    clip_id: str
    label: str
    prompt: str
    event_times_s: tuple[float, ...]
    pitch: float
    size: float
    has_speech: bool
    appearance_seed: int


def draw_event_times(generator: np.random.Generator, *, count: int) -> tuple[float, ...]:
    """`count` rising times in s, uniform among those that keep `MIN_EVENT_GAP_S` between neighbours."""
    free_s = LAST_EVENT_S - FIRST_EVENT_S - MIN_EVENT_GAP_S * (count - 1)
    starts = np.sort(generator.uniform(0.0, free_s, count)) + FIRST_EVENT_S + MIN_EVENT_GAP_S * np.arange(count)
    return tuple(round(float(start), 4) for start in starts)


def make_clip_events(seed: int, split: str, index: int) -> ClipEvents:
    """The events of clip number `index` of `split`; the same arguments always give the same clip."""
    if index < 0:
        raise UserError(f"Clip index {index} is negative.", where="tiny world", remedy="Count clips from 0.")
    generator = np.random.default_rng([seed, crc32(split.encode()), index])
    label = CLASSES[int(generator.integers(len(CLASSES)))]
    size = float(generator.uniform())
    count = int(generator.integers(1, MAX_EVENTS + 1))
    colour = str(generator.choice(list(COLOURS)))
    place = str(generator.choice(_PLACES))
    size_word = _SIZES[min(int(size * len(_SIZES)), len(_SIZES) - 1)]
    return ClipEvents(
        clip_id=f"{split}-{index:05d}",
        label=label,
        prompt=f"a {size_word} {colour} {label} {VERBS[label]} {_COUNTS[count - 1]} {place}",
        event_times_s=draw_event_times(generator, count=count),
        pitch=float(2.0 ** (PITCH_RANGE_OCTAVES * (0.5 - size))),
        size=size,
        has_speech=label in SPEECH_CLASSES,
        appearance_seed=int(generator.integers(2**31)),
    )


def make_split(seed: int, split: str, count: int) -> list[ClipEvents]:
    """The events of the first `count` clips of `split`."""
    return [make_clip_events(seed, split, index) for index in range(count)]


@dataclass(frozen=True)
class DamageRates:
    """The probability of each kind of damage to a pre-training recording; kinds are independent."""

    shifted: float = 0.30
    wrong_class: float = 0.15
    noisy: float = 0.30
    wrong_count: float = 0.15
    wrong_pitch: float = 0.30


def damage_events(events: ClipEvents, generator: np.random.Generator, rates: DamageRates) -> ClipEvents:
    """The events of a damaged sound: shifted .12-.5 s, of a wrong class, one too few or too many, or mistuned."""
    draws = generator.uniform(size=4)
    times = list(events.event_times_s)
    if draws[0] < rates.shifted:
        shift_s = generator.uniform(0.12, 0.5) * generator.choice([-1.0, 1.0])
        times = [time_s + shift_s for time_s in times]
    if draws[1] < rates.wrong_count:
        times = _add_or_drop_event(times, generator)
    label, pitch = events.label, events.pitch
    if draws[2] < rates.wrong_class:
        label = str(generator.choice([name for name in CLASSES if name != label]))
    if draws[3] < rates.wrong_pitch:
        pitch *= 2.0 ** (generator.uniform(0.35, 0.9) * generator.choice([-1.0, 1.0]))
    return replace(events, label=label, pitch=pitch, event_times_s=tuple(times))


def _add_or_drop_event(times: list[float], generator: np.random.Generator) -> list[float]:
    candidates_s = np.arange(FIRST_EVENT_S, LAST_EVENT_S, 0.02)
    free_s = [time for time in candidates_s if all(abs(time - other) >= MIN_EVENT_GAP_S for other in times)]
    drop = len(times) > 1 and (not free_s or len(times) == MAX_EVENTS or generator.uniform() < 0.5)
    if drop:
        dropped = int(generator.integers(len(times)))
        return [time for number, time in enumerate(times) if number != dropped]
    return sorted([*times, float(generator.choice(free_s))])


def read_events(uri: str) -> dict[str, ClipEvents]:
    """Clip id -> events, from the world's `events.json` at `uri`. Raises UserError when the file is missing."""
    return {
        clip_id: ClipEvents(**values | {"event_times_s": tuple(values["event_times_s"])})
        for clip_id, values in read_json(uri).items()
    }


def write_events(path: Path, clip_events: Iterable[ClipEvents]) -> None:
    """Writes the `events.json` that `read_events` reads, in one step."""
    write_json(path, {events.clip_id: asdict(events) for events in clip_events})
