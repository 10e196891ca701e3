"""The order of visits and the learning rate."""

import numpy as np
import pytest

from v2a_dpo.alignment.schedule import learning_rate, split_pairs, visit_order

PHASES = np.array(["easy"] * 81 + ["hard"] * 19)
EVERYTHING = np.arange(100)


def order(**changes):
    settings = {"steps": 50, "batch_size": 8, "seed": 0, "curriculum": True}
    return visit_order(PHASES, EVERYTHING, **{**settings, **changes})


def test_easy_pairs_come_first_and_phases_share_steps_by_their_pairs():
    visits = order(steps=100)
    assert visits.steps_by_phase == {"easy": 81, "hard": 19}
    assert (PHASES[visits.pair[:81]] == "easy").all()
    assert (PHASES[visits.pair[81:]] == "hard").all()
    assert [visits.phase(step) for step in (0, 80, 81, 99)] == ["easy", "easy", "hard", "hard"]


def test_every_pair_is_visited_about_equally_often():
    """50 steps of 8 are four visits of each of 100 pairs; a phase's share is rounded to whole steps."""
    counts = np.bincount(order().pair.ravel(), minlength=100)
    assert counts.min() >= 3
    assert counts.max() <= 5
    assert counts.sum() == 400


def test_a_visit_number_counts_the_earlier_visits_of_its_pair():
    visits = order()
    seen: dict[int, int] = {}
    for pair, visit in zip(visits.pair.ravel(), visits.visit.ravel(), strict=True):
        assert visit == seen.get(pair, 0)
        seen[pair] = visit + 1


def test_epochs_are_shuffled_differently_and_reproducibly():
    first, again, other = order(), order(), order(seed=1)
    np.testing.assert_array_equal(first.pair, again.pair)
    assert not np.array_equal(first.pair, other.pair)
    stream = first.pair[:40].ravel()
    assert not np.array_equal(stream[:81], stream[81:162])
    assert set(stream[:81]) == set(stream[81:162])


def test_without_curriculum_all_pairs_are_mixed():
    visits = order(curriculum=False)
    assert visits.steps_by_phase == {"all": 50}
    assert set(visits.pair[:13].ravel()[:100]) == set(range(100))


@pytest.mark.parametrize(("hard", "steps", "expected"), [
    (1, 100, {"easy": 99, "hard": 1}),
    (1, 3, {"easy": 2, "hard": 1}),
    (0, 7, {"easy": 7}),
    (10, 7, {"hard": 7}),
    (9, 100, {"easy": 10, "hard": 90}),
])  # fmt: skip
def test_a_phase_with_pairs_gets_a_step_and_an_empty_one_none(hard, steps, expected):
    total = 10 if hard != 1 else 1000
    phases = np.array(["easy"] * (total - hard) + ["hard"] * hard)
    visits = visit_order(phases, np.arange(total), steps=steps, batch_size=2, seed=0, curriculum=True)
    assert visits.steps_by_phase == expected
    assert visits.pair.shape == (steps, 2)


def test_validation_pairs_are_never_visited():
    training, validation = split_pairs([f"clip{i}" for i in range(100)], share=0.05, seed=0)
    assert len(validation) == 5
    assert set(training) | set(validation) == set(range(100))
    visits = visit_order(PHASES, training, steps=200, batch_size=8, seed=0, curriculum=True)
    assert set(visits.pair.ravel()) == set(training)


def test_the_first_validation_pairs_are_a_fair_sample_however_the_pairs_are_ordered():
    """As many pairs as in the paper, the rated ones first, as mining writes them."""
    clips = [f"rated{i}" for i in range(2000)] + [f"mined{i}" for i in range(46_000)]
    _, validation = split_pairs(clips, share=0.05, seed=0)
    measured = [clips[pair] for pair in validation[:512]]
    rated = sum(clip.startswith("rated") for clip in measured) / len(measured)
    assert rated == pytest.approx(2000 / 48_000, abs=0.02)
    turned = clips[::-1]
    _, of_turned = split_pairs(turned, share=0.05, seed=0)
    assert [turned[pair] for pair in of_turned] == [clips[pair] for pair in validation]
    _, of_another_seed = split_pairs(clips, share=0.05, seed=1)
    assert len(set(validation) & set(of_another_seed)) < 300


@pytest.mark.parametrize(("clips", "share", "expected"), [(1, 0.5, 0), (10, 0.01, 1), (10, 0.0, 0), (2, 0.99, 1)])
def test_the_split_leaves_pairs_to_train_on(clips, share, expected):
    assert len(split_pairs([f"clip{i}" for i in range(clips)], share=share, seed=0)[1]) == expected


def test_the_learning_rate_rises_linearly_to_its_peak_and_stays():
    rates = [learning_rate(step, peak=1e-4, warmup_steps=4) for step in range(6)]
    assert rates == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4, 1e-4])
    assert learning_rate(0, peak=1e-4, warmup_steps=0) == 1e-4
