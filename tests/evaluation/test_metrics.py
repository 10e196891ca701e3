from unittest.mock import patch

import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference, resample_indices
from v2a_dpo.evaluation.frechet import frechet_distance
from v2a_dpo.evaluation.metrics import METRICS, BootstrapSettings, Comparison, Metric, compare, verdict
from v2a_dpo.evaluation.systems import SystemClips, join_columns

SETTINGS = BootstrapSettings(resamples=400, fd_resamples=100, confidence=0.95, seed=1)
NUM_CLIPS, CLASSES, DIMENSIONS = 60, 5, 4


def system(seed, *, error, scores=0.0):
    """A system whose taggers' outputs differ from the real audio's by noise of standard deviation `error`."""
    real, noise = np.random.default_rng(0), np.random.default_rng(seed)
    logits = real.normal(size=(NUM_CLIPS, CLASSES)) * 3
    embedding = real.normal(size=(NUM_CLIPS, DIMENSIONS))
    common = np.random.default_rng(9).normal(size=NUM_CLIPS)
    columns = {
        "panns_logits": logits + error * noise.normal(size=logits.shape),
        "passt_logits": logits + error * noise.normal(size=logits.shape),
        "panns_embedding": embedding,
        "passt_embedding": embedding + error,
        "imagebind": 0.3 + 0.02 * common + scores,
        "clap": 0.4 + 0.02 * common + scores,
        "desync": np.abs(common) - scores,
        "quality": 0.5 + 0.1 * common + scores,
    }
    return SystemClips([f"clip-{row}" for row in range(NUM_CLIPS)], columns)


@pytest.fixture(scope="module")
def comparison():
    return compare(
        system(1, error=0.0), {"base": system(2, error=2.0), "aligned": system(3, error=0.5, scores=0.1)}, SETTINGS
    )


def test_a_system_nearer_to_the_real_audio_is_better_in_every_metric_that_looks_at_it(comparison):
    for metric in METRICS:
        change = comparison.differences[metric.key]
        if metric.key == "inception_score":
            continue
        assert verdict(metric, change) == "better", metric
        assert change.p_better < 0.05


def test_values_are_what_the_definitions_say(comparison):
    base = system(2, error=2.0)
    assert comparison.intervals["base"]["ib_score"].value == pytest.approx(100 * base.columns["imagebind"].mean())
    assert comparison.intervals["base"]["desync_s"].value == pytest.approx(base.columns["desync"].mean())
    # A set moved by 2 in each of 4 dimensions: covariances are equal, so only the means count.
    assert comparison.intervals["base"]["fd_passt"].value == pytest.approx(2.0**2 * DIMENSIONS)
    assert comparison.intervals["aligned"]["fd_passt"].value == pytest.approx(0.5**2 * DIMENSIONS)
    assert comparison.differences["rater_quality"].value == pytest.approx(0.1)


def test_a_constant_gain_has_an_interval_of_no_width_because_clips_are_paired(comparison):
    change = comparison.differences["clap_score"]
    assert (change.low, change.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_distance_sees_the_same_resamples_as_the_other_metrics():
    """A system whose distance and IB-score lie and fall with the same clips: their resampled values go together."""
    real, base, aligned = system(1, error=0.0), system(2, error=0.0), system(3, error=0.0)
    far = np.random.default_rng(4).random(NUM_CLIPS) < 0.5
    for moved in (base, aligned):
        moved.columns["passt_embedding"] = moved.columns["passt_embedding"] + 5.0 * far[:, None]
        moved.columns["imagebind"] = far.astype(float)
    seen = {}
    with patch("v2a_dpo.evaluation.metrics.interval", lambda value, resampled, *, confidence: resampled):
        intervals = compare(real, {"base": base, "aligned": aligned}, SETTINGS).intervals
    for name in ("base", "aligned"):
        seen[name] = intervals[name]["fd_passt"]
        assert np.corrcoef(seen[name], intervals[name]["ib_score"][: SETTINGS.fd_resamples])[0, 1] > 0.9
    np.testing.assert_allclose(seen["base"], seen["aligned"], rtol=1e-9)


def test_a_system_against_itself_differs_in_nothing():
    same = system(2, error=1.0)
    comparison = compare(system(1, error=0.0), {"base": same, "aligned": same}, SETTINGS)
    assert comparison.win_rate.value == 0.5
    for metric in METRICS:
        assert comparison.differences[metric.key].value == 0.0
        assert verdict(metric, comparison.differences[metric.key]) == "unclear"


def test_win_rate_counts_ties_one_half():
    base, aligned = system(2, error=1.0), system(2, error=1.0)
    quality = base.columns["quality"].copy()
    quality[:30] += 1
    quality[30:40] -= 1
    aligned = SystemClips(aligned.clip_ids, {**aligned.columns, "quality": quality})
    comparison = compare(system(1, error=0.0), {"base": base, "aligned": aligned}, SETTINGS)
    assert comparison.win_rate.value == pytest.approx((30 + 0.5 * 20) / 60)
    assert comparison.win_rate.low > 0.5


def test_a_clip_without_a_score_in_one_system_counts_in_neither():
    base, aligned = system(2, error=1.0), system(2, error=1.0)
    clap = base.columns["clap"].copy()
    clap[0] = 1000.0
    base = SystemClips(base.clip_ids, {**base.columns, "clap": clap})
    missing = aligned.columns["clap"].copy()
    missing[0] = np.nan
    aligned = SystemClips(aligned.clip_ids, {**aligned.columns, "clap": missing})
    comparison = compare(system(1, error=0.0), {"base": base, "aligned": aligned}, SETTINGS)
    assert comparison.differences["clap_score"].value == pytest.approx(0.0, abs=1e-12)
    assert comparison.intervals["base"]["clap_score"].value < 1


def test_each_metric_says_on_how_many_clips_it_rests():
    base, aligned = system(2, error=1.0), system(3, error=1.0, scores=0.1)
    columns = {"clap": aligned.columns["clap"].copy(), "quality": aligned.columns["quality"].copy()}
    columns["clap"][2:] = np.nan
    columns["quality"][:7] = np.nan
    aligned = SystemClips(aligned.clip_ids, {**aligned.columns, **columns})
    comparison = compare(system(1, error=0.0), {"base": base, "aligned": aligned}, SETTINGS)
    assert comparison.counts["clap_score"] == 2
    assert comparison.counts["win_rate"] == comparison.counts["rater_quality"] == NUM_CLIPS - 7
    everything = {"fd_passt", "inception_score", "kl_panns", "kl_passt", "ib_score", "desync_s"}
    assert {key for key, count in comparison.counts.items() if count == NUM_CLIPS} == everything


def test_a_clip_that_one_system_alone_failed_on_is_lost_by_it():
    base, aligned = system(2, error=1.0), system(3, error=1.0, scores=0.1)
    systems = {"base": base, "aligned": aligned}
    comparison = compare(system(1, error=0.0), systems, SETTINGS, failed={"base": 5, "aligned": 15})
    assert comparison.win_rate.value == pytest.approx((NUM_CLIPS + 5) / (NUM_CLIPS + 20))
    assert comparison.counts["win_rate"] == NUM_CLIPS + 20
    assert comparison.counts["rater_quality"] == NUM_CLIPS
    assert comparison.failed == {"base": 5, "aligned": 15}


def test_the_resamples_of_fd_are_the_first_of_those_of_all_metrics():
    real, base, aligned = system(1, error=0.0), system(2, error=1.0), system(3, error=0.5)
    spread = np.random.default_rng(4).normal(size=(NUM_CLIPS, DIMENSIONS))
    base = SystemClips(base.clip_ids, {**base.columns, "passt_embedding": real.columns["passt_embedding"] + spread})
    comparison = compare(real, {"base": base, "aligned": aligned}, SETTINGS)
    drawn = resample_indices(NUM_CLIPS, resamples=SETTINGS.resamples, seed=SETTINGS.seed)[: SETTINGS.fd_resamples]
    values = np.array(
        [
            frechet_distance(base.columns["passt_embedding"][rows], real.columns["passt_embedding"][rows])
            for rows in drawn
        ]
    )
    value = comparison.intervals["base"]["fd_passt"].value
    low, high = np.quantile(values - values.mean() + value, [0.025, 0.975])
    assert comparison.intervals["base"]["fd_passt"].low == pytest.approx(low, rel=1e-6)
    assert comparison.intervals["base"]["fd_passt"].high == pytest.approx(high, rel=1e-6)


def test_metrics_of_an_earlier_release_are_refused_in_words(comparison):
    content = comparison.to_dict()
    del content["counts"]
    with pytest.raises(UserError, match="of an earlier release"):
        Comparison.from_dict(content)


def test_joining_looks_at_each_list_of_clips_a_fixed_number_of_times():
    class Counted(list):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    clip_ids = [f"clip-{number}" for number in range(200)]
    first = SystemClips(Counted(clip_ids), {"a": np.arange(200.0)})
    second = SystemClips(Counted(clip_ids[::-1]), {"b": np.arange(200.0)})
    joined = join_columns(first, second)
    assert joined.clip_ids == clip_ids
    assert (joined.columns["a"] + joined.columns["b"] == 199).all()
    assert Counted.passes < 10


def test_metrics_nobody_measured_are_absent_not_zero():
    silent = {"quality": np.full(NUM_CLIPS, np.nan), "clap": np.full(NUM_CLIPS, np.nan)}
    systems = {}
    for name, seed in (("base", 2), ("aligned", 3)):
        found = system(seed, error=1.0)
        systems[name] = SystemClips(found.clip_ids, {**found.columns, **silent})
    comparison = compare(system(1, error=0.0), systems, SETTINGS)
    assert comparison.win_rate is None
    assert {"rater_quality", "clap_score"}.isdisjoint(comparison.differences)
    assert "win_rate" not in comparison.to_dict()


def test_the_same_seed_gives_the_same_numbers_and_json_keeps_them(comparison):
    again = compare(
        system(1, error=0.0), {"base": system(2, error=2.0), "aligned": system(3, error=0.5, scores=0.1)}, SETTINGS
    )
    assert again == comparison
    assert Comparison.from_dict(comparison.to_dict()) == comparison


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "expected"),
    [
        (0.1, 0.3, True, "better"),
        (0.1, 0.3, False, "worse"),
        (-0.3, -0.1, False, "better"),
        (-0.1, 0.3, True, "unclear"),
    ],
)
def test_verdicts_need_an_interval_on_one_side(low, high, higher_is_better, expected):
    metric = Metric("m", "M", "", higher_is_better, 2)
    assert verdict(metric, Difference(0.5 * (low + high), low, high, 0.0, 0.0)) == expected
