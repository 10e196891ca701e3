from dataclasses import replace

import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.tiny.render import render_frames
from v2a_dpo.tiny.sound import DamageRates, damage_truth, render_audio, render_damaged_audio
from v2a_dpo.tiny.world import (
    CLASSES,
    FIRST_EVENT_S,
    LAST_EVENT_S,
    MAX_PROMPT_WORDS,
    MIN_EVENT_GAP_S,
    ClipTruth,
    make_clip_truth,
    make_split,
    tokenize,
)


def test_the_same_arguments_give_the_same_clip_sound_and_pictures():
    first, second = make_clip_truth(3, "test", 5), make_clip_truth(3, "test", 5)
    assert first == second
    assert np.array_equal(render_audio(first), render_audio(second))
    assert np.array_equal(render_frames(first, size=32), render_frames(second, size=32))


def test_seed_split_and_index_each_make_another_clip():
    base = make_clip_truth(3, "test", 5)
    for other in (make_clip_truth(4, "test", 5), make_clip_truth(3, "preference", 5), make_clip_truth(3, "test", 6)):
        assert other.appearance_seed != base.appearance_seed


def test_events_keep_their_distance_and_lie_within_the_clip():
    for truth in make_split(0, "test", 200):
        times = np.asarray(truth.event_times_s)
        assert 1 <= times.size <= 4
        assert times.min() >= FIRST_EVENT_S
        assert times.max() <= LAST_EVENT_S + 1e-4
        assert (np.diff(times) >= MIN_EVENT_GAP_S - 1e-3).all()


def test_every_class_occurs_and_only_the_voice_speaks():
    truths = make_split(0, "test", 200)
    assert {truth.label for truth in truths} == set(CLASSES)
    assert {truth.label for truth in truths if truth.has_speech} == {"voice"}


def test_large_objects_sound_lower():
    by_size = sorted(make_split(0, "test", 50), key=lambda truth: truth.size)
    pitches = [truth.pitch for truth in by_size]
    assert pitches == sorted(pitches, reverse=True)


def test_a_truth_survives_its_json_form():
    truth = make_clip_truth(0, "test", 1)
    assert ClipTruth.from_dict(truth.to_dict()) == truth


def test_a_negative_index_is_refused():
    with pytest.raises(UserError, match="negative"):
        make_clip_truth(0, "test", -1)


def test_prompts_consist_of_known_words_and_unknown_words_are_marked():
    for truth in make_split(0, "test", 50):
        tokens = tokenize(truth.prompt)
        assert len(tokens) == MAX_PROMPT_WORDS
        assert 1 not in tokens
    assert tokenize("a zebra")[1] == 1


def test_sound_energy_rises_at_every_event():
    for truth in make_split(1, "test", 40):
        audio = render_audio(truth)
        for time_s in truth.event_times_s:
            onset = round(time_s * 16_000)
            before = np.square(audio[onset - 480 : onset]).mean()
            after = np.square(audio[onset : onset + 960]).mean()
            assert after > 2 * before, (truth.label, time_s)


def test_the_picture_differs_most_from_rest_around_its_event():
    for truth in make_split(1, "test", 40):
        time_s = truth.event_times_s[0]
        frames = render_frames(replace(truth, event_times_s=(time_s,)), size=32).astype(float)
        rest = frames[-1] if time_s < 1.0 else frames[0]
        unrest = np.abs(frames - rest).mean(axis=(1, 2, 3))
        assert -0.16 <= unrest.argmax() / 25 - time_s <= 0.2, truth


def test_without_damage_a_recording_is_the_true_sound():
    truth = make_clip_truth(0, "test", 0)
    none = DamageRates(shifted=0, wrong_class=0, noisy=0, wrong_count=0, wrong_pitch=0)
    assert np.array_equal(render_damaged_audio(truth, np.random.default_rng(0), none), render_audio(truth))


def test_each_damage_strikes_at_its_rate():
    truths = make_split(0, "test", 600)
    generator = np.random.default_rng(0)
    damaged = [damage_truth(truth, generator, DamageRates()) for truth in truths]
    pairs = list(zip(truths, damaged, strict=True))
    wrong_class = np.mean([truth.label != other.label for truth, other in pairs])
    wrong_pitch = np.mean([truth.pitch != other.pitch for truth, other in pairs])
    wrong_count = np.mean([len(truth.event_times_s) != len(other.event_times_s) for truth, other in pairs])
    assert wrong_class == pytest.approx(0.15, abs=0.045)
    assert wrong_pitch == pytest.approx(0.30, abs=0.06)
    assert wrong_count == pytest.approx(0.15, abs=0.045)
