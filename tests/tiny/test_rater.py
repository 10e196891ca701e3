import numpy as np
import pytest

from v2a_dpo.tiny.rater import judge, onset_f1, rate
from v2a_dpo.tiny.sound import coloured_noise, render_audio, render_damaged_audio
from v2a_dpo.tiny.world import DamageRates, make_split

CLIP_EVENTS = make_split(5, "test", 40)


def mean_quality(sounds):
    return np.mean([judge(audio, events).quality for audio, events in zip(sounds, CLIP_EVENTS, strict=True)])


def test_the_true_sound_beats_a_damaged_one_and_that_beats_noise():
    generator = np.random.default_rng(0)
    true = mean_quality([render_audio(events) for events in CLIP_EVENTS])
    damaged = mean_quality([render_damaged_audio(events, generator, DamageRates()) for events in CLIP_EVENTS])
    noise = mean_quality([0.1 * coloured_noise(generator) for _ in CLIP_EVENTS])
    assert true > 0.93
    assert true - damaged > 0.1
    assert damaged - noise > 0.3


def only(**kind):
    return DamageRates(**{"shifted": 0, "wrong_class": 0, "noisy": 0, "wrong_count": 0, "wrong_pitch": 0, **kind})


@pytest.mark.parametrize(
    ("rates", "part", "least_drop"),
    [
        (only(shifted=1), "onset_f1", 0.5),
        (only(wrong_class=1), "class_match", 0.7),
        (only(wrong_pitch=1), "pitch_match", 0.4),
        (only(wrong_count=1), "onset_f1", 0.1),
    ],
)
def test_each_damage_lowers_its_part_of_the_judgement(rates, part, least_drop):
    generator = np.random.default_rng(0)
    clean = np.mean([getattr(judge(render_audio(events), events), part) for events in CLIP_EVENTS])
    damaged = np.mean(
        [getattr(judge(render_damaged_audio(events, generator, rates), events), part) for events in CLIP_EVENTS]
    )
    assert clean - damaged > least_drop


def test_noise_raises_the_noise_part():
    generator = np.random.default_rng(0)
    clean = np.mean([judge(render_audio(events), events).noise for events in CLIP_EVENTS])
    noisy = np.mean([judge(render_damaged_audio(t, generator, only(noisy=1)), t).noise for t in CLIP_EVENTS])
    assert noisy - clean > 0.3


def test_quality_weighs_its_parts_as_stated():
    judgement = judge(render_audio(CLIP_EVENTS[0]), CLIP_EVENTS[0])
    expected = (
        0.45 * judgement.onset_f1
        + 0.30 * judgement.class_match
        + 0.15 * (1 - judgement.noise)
        + 0.10 * judgement.pitch_match
    )
    assert judgement.quality == pytest.approx(expected)


def test_silence_has_no_onset_no_class_and_no_pitch():
    judgement = judge(np.zeros(32_000, dtype=np.float32), CLIP_EVENTS[0])
    assert (judgement.onset_f1, judgement.class_match, judgement.pitch_match) == (0.0, 0.0, 0.0)


def test_onsets_match_one_to_one_within_the_tolerance():
    true_s = np.array([0.5, 1.0])
    assert onset_f1(np.array([0.52, 1.07]), true_s) == 1.0
    assert onset_f1(np.array([0.52, 0.54]), true_s) == 0.5
    assert onset_f1(np.array([0.59]), true_s) == 0.0
    assert onset_f1(np.array([]), true_s) == 0.0


def rows(count):
    return [(f"clip-{number // 5}", number % 5) for number in range(count)]


def test_without_noise_ratings_are_terciles_of_quality():
    qualities = np.random.default_rng(0).uniform(size=90)
    ratings = rate(list(qualities), rows(90), seed=0, sigma=0.0, flips=0.0)
    ranks = qualities.argsort().argsort()
    assert [("bad", "medium", "good")[rank // 30] for rank in ranks] == ratings


def test_a_share_of_ratings_is_flipped():
    qualities = list(np.random.default_rng(0).uniform(size=2000))
    clean = rate(qualities, rows(2000), seed=0, flips=0.0)
    flipped = rate(qualities, rows(2000), seed=0, flips=0.05)
    assert np.mean([a != b for a, b in zip(clean, flipped, strict=True)]) == pytest.approx(0.05, abs=0.015)


def test_a_row_keeps_its_rating_noise_in_any_order():
    qualities = list(np.random.default_rng(0).uniform(size=60))
    forward = rate(qualities, rows(60), seed=0)
    backward = rate(qualities[::-1], rows(60)[::-1], seed=0)
    assert forward == backward[::-1]
