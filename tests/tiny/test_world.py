from dataclasses import replace

import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.tiny.render import render_frames
from v2a_dpo.tiny.sound import render_audio, render_damaged_audio
from v2a_dpo.tiny.world import (
    CLASSES,
    FIRST_EVENT_S,
    LAST_EVENT_S,
    MAX_PROMPT_WORDS,
    MIN_EVENT_GAP_S,
    DamageRates,
    damage_events,
    make_clip_events,
    make_split,
    read_events,
    tokenize,
    write_events,
)


def test_the_same_arguments_give_the_same_clip_sound_and_pictures():
    first, second = make_clip_events(3, "test", 5), make_clip_events(3, "test", 5)
    assert first == second
    assert np.array_equal(render_audio(first), render_audio(second))
    assert np.array_equal(render_frames(first, size=32), render_frames(second, size=32))


def test_seed_split_and_index_each_make_another_clip():
    base = make_clip_events(3, "test", 5)
    for other in (make_clip_events(4, "test", 5), make_clip_events(3, "preference", 5), make_clip_events(3, "test", 6)):
        assert other.appearance_seed != base.appearance_seed


def test_events_keep_their_distance_and_lie_within_the_clip():
    for events in make_split(0, "test", 200):
        times = np.asarray(events.event_times_s)
        assert 1 <= times.size <= 4
        assert times.min() >= FIRST_EVENT_S
        assert times.max() <= LAST_EVENT_S + 1e-4
        assert (np.diff(times) >= MIN_EVENT_GAP_S - 1e-3).all()


def test_every_class_occurs_and_only_the_voice_speaks():
    clip_events = make_split(0, "test", 200)
    assert {events.label for events in clip_events} == set(CLASSES)
    assert {events.label for events in clip_events if events.has_speech} == {"voice"}


def test_large_objects_sound_lower():
    by_size = sorted(make_split(0, "test", 50), key=lambda events: events.size)
    pitches = [events.pitch for events in by_size]
    assert pitches == sorted(pitches, reverse=True)


def test_events_survive_their_json_form(tmp_path):
    events = make_clip_events(0, "test", 1)
    write_events(tmp_path / "events.json", [events])
    assert read_events(str(tmp_path / "events.json")) == {events.clip_id: events}


def test_a_negative_index_is_refused():
    with pytest.raises(UserError, match="negative"):
        make_clip_events(0, "test", -1)


def test_prompts_consist_of_known_words_and_unknown_words_are_marked():
    for events in make_split(0, "test", 50):
        tokens = tokenize(events.prompt)
        assert len(tokens) == MAX_PROMPT_WORDS
        assert 1 not in tokens
    assert tokenize("a zebra")[1] == 1


def test_sound_energy_rises_at_every_event():
    for events in make_split(1, "test", 40):
        audio = render_audio(events)
        for time_s in events.event_times_s:
            onset = round(time_s * 16_000)
            before = np.square(audio[onset - 480 : onset]).mean()
            after = np.square(audio[onset : onset + 960]).mean()
            assert after > 2 * before, (events.label, time_s)


def test_the_picture_differs_most_from_rest_around_its_event():
    for events in make_split(1, "test", 40):
        time_s = events.event_times_s[0]
        frames = render_frames(replace(events, event_times_s=(time_s,)), size=32).astype(float)
        rest = frames[-1] if time_s < 1.0 else frames[0]
        unrest = np.abs(frames - rest).mean(axis=(1, 2, 3))
        assert -0.16 <= unrest.argmax() / 25 - time_s <= 0.2, events


def test_without_damage_a_recording_is_the_true_sound():
    events = make_clip_events(0, "test", 0)
    none = DamageRates(shifted=0, wrong_class=0, noisy=0, wrong_count=0, wrong_pitch=0)
    assert np.array_equal(render_damaged_audio(events, np.random.default_rng(0), none), render_audio(events))


def test_each_damage_strikes_at_its_rate():
    clip_events = make_split(0, "test", 600)
    generator = np.random.default_rng(0)
    damaged = [damage_events(events, generator, DamageRates()) for events in clip_events]
    pairs = list(zip(clip_events, damaged, strict=True))
    wrong_class = np.mean([events.label != other.label for events, other in pairs])
    wrong_pitch = np.mean([events.pitch != other.pitch for events, other in pairs])
    wrong_count = np.mean([len(events.event_times_s) != len(other.event_times_s) for events, other in pairs])
    assert wrong_class == pytest.approx(0.15, abs=0.045)
    assert wrong_pitch == pytest.approx(0.30, abs=0.06)
    assert wrong_count == pytest.approx(0.15, abs=0.045)
