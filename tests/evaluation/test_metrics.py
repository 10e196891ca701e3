from unittest.mock import patch

import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference, resample_indices
from v2a_dpo.evaluation.frechet import frechet_distance
from v2a_dpo.evaluation.metrics import METRICS, BootstrapSettings, Comparison, Metric, compare, evaluated_clips, verdict
from v2a_dpo.evaluation.systems import SystemClips

SETTINGS = BootstrapSettings(resamples=400, fd_resamples=100, confidence=0.95, seed=1)
NUM_CLIPS, CLASSES, DIMENSIONS = 60, 5, 4


def system(seed, *, error, scores=0.0, **replacements):
    """A system whose taggers' outputs differ from the real audio's by noise of standard deviation `error`; columns in
    `replacements` are taken instead."""
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
    return SystemClips([f"clip-{row}" for row in range(NUM_CLIPS)], columns | replacements)


def compared(systems, *, reference="base", **options):
    real = system(1, error=0.0)
    evaluated = {name: evaluated_clips(real, item, real.clip_ids) for name, item in systems.items()}
    return compare(evaluated, SETTINGS, reference=reference, **options)


def two_systems():
    return compared({"base": system(2, error=2.0), "aligned": system(3, error=0.5, scores=0.1)})


@pytest.fixture(scope="module")
def comparison():
    return two_systems()


def test_a_system_nearer_to_the_real_audio_is_better_in_every_metric_that_looks_at_it(comparison):
    for metric in METRICS:
        change = comparison.differences["aligned"][metric.key]
        if metric.key == "inception_score":
            continue
        assert verdict(metric, change) == "better", metric
        assert change.p_better < 0.05


def test_values_are_what_the_definitions_say(comparison):
    base = system(2, error=2.0)
    assert comparison.systems["base"]["ib_score"].value == pytest.approx(100 * base.columns["imagebind"].mean())
    assert comparison.systems["base"]["desync_s"].value == pytest.approx(base.columns["desync"].mean())
    # A set moved by 2 in each of 4 dimensions: covariances are equal, so only the means count.
    assert comparison.systems["base"]["fd_passt"].value == pytest.approx(2.0**2 * DIMENSIONS)
    assert comparison.systems["aligned"]["fd_passt"].value == pytest.approx(0.5**2 * DIMENSIONS)
    assert comparison.differences["aligned"]["rater_quality"].value == pytest.approx(0.1)


def test_a_constant_gain_has_an_interval_of_no_width_because_clips_are_paired(comparison):
    change = comparison.differences["aligned"]["clap_score"]
    assert (change.low, change.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_distance_sees_the_same_resamples_as_the_other_metrics():
    """A system whose distance and IB-score lie and fall with the same clips: their resampled values go together."""
    base, aligned = system(2, error=0.0), system(3, error=0.0)
    far = np.random.default_rng(4).random(NUM_CLIPS) < 0.5
    for moved in (base, aligned):
        moved.columns["passt_embedding"] = moved.columns["passt_embedding"] + 5.0 * far[:, None]
        moved.columns["imagebind"] = far.astype(float)
    seen = {}
    with patch("v2a_dpo.evaluation.metrics.interval", lambda value, resampled, *, confidence: resampled):
        intervals = compared({"base": base, "aligned": aligned}).systems
    for name in ("base", "aligned"):
        seen[name] = intervals[name]["fd_passt"]
        assert np.corrcoef(seen[name], intervals[name]["ib_score"][: SETTINGS.fd_resamples])[0, 1] > 0.9
    np.testing.assert_allclose(seen["base"], seen["aligned"], rtol=1e-9)


def test_a_system_against_itself_differs_in_nothing():
    same = system(2, error=1.0)
    comparison = compared({"base": same, "aligned": same})
    assert comparison.win_rate["aligned"].value == 0.5
    for metric in METRICS:
        assert comparison.differences["aligned"][metric.key].value == 0.0
        assert verdict(metric, comparison.differences["aligned"][metric.key]) == "unclear"


def test_win_rate_counts_ties_one_half():
    base = system(2, error=1.0)
    quality = base.columns["quality"].copy()
    quality[:30] += 1
    quality[30:40] -= 1
    comparison = compared({"base": base, "aligned": system(2, error=1.0, quality=quality)})
    assert comparison.win_rate["aligned"].value == pytest.approx((30 + 0.5 * 20) / 60)
    assert comparison.win_rate["aligned"].low > 0.5


def test_a_clip_without_a_score_in_one_system_counts_in_neither():
    base, aligned = system(2, error=1.0), system(2, error=1.0)
    base.columns["clap"][0] = 1000.0
    aligned.columns["clap"][0] = np.nan
    comparison = compared({"base": base, "aligned": aligned})
    assert comparison.differences["aligned"]["clap_score"].value == pytest.approx(0.0, abs=1e-12)
    assert comparison.systems["base"]["clap_score"].value < 1


def test_each_metric_says_on_how_many_clips_it_rests():
    base, aligned = system(2, error=1.0), system(3, error=1.0, scores=0.1)
    aligned.columns["clap"][2:] = np.nan
    aligned.columns["quality"][:7] = np.nan
    comparison = compared({"base": base, "aligned": aligned})
    assert comparison.counts["clap_score"] == 2
    assert comparison.win_rate["aligned"].clips == comparison.counts["rater_quality"] == NUM_CLIPS - 7
    everything = {"fd_passt", "inception_score", "kl_panns", "kl_passt", "ib_score", "desync_s"}
    assert {key for key, count in comparison.counts.items() if count == NUM_CLIPS} == everything


def test_a_clip_that_one_system_alone_failed_on_is_lost_by_it():
    base, aligned = system(2, error=1.0), system(3, error=1.0, scores=0.1)
    systems = {"base": base, "aligned": aligned}
    failed = {"base": {f"base-{row}" for row in range(5)}, "aligned": {f"aligned-{row}" for row in range(15)}}
    comparison = compared(systems, failed={name: {*clip_ids, "by all"} for name, clip_ids in failed.items()})
    assert comparison.win_rate["aligned"].value == pytest.approx((NUM_CLIPS + 5) / (NUM_CLIPS + 20))
    assert comparison.win_rate["aligned"].clips == NUM_CLIPS + 20
    assert comparison.counts["rater_quality"] == NUM_CLIPS
    assert comparison.failed == {"base": 5, "aligned": 15}


def test_the_resamples_of_fd_are_the_first_of_those_of_all_metrics():
    real, base, aligned = system(1, error=0.0), system(2, error=1.0), system(3, error=0.5)
    spread = np.random.default_rng(4).normal(size=(NUM_CLIPS, DIMENSIONS))
    base.columns["passt_embedding"] = real.columns["passt_embedding"] + spread
    comparison = compared({"base": base, "aligned": aligned})
    drawn = resample_indices(NUM_CLIPS, resamples=SETTINGS.resamples, seed=SETTINGS.seed)[: SETTINGS.fd_resamples]
    values = np.array(
        [
            frechet_distance(base.columns["passt_embedding"][rows], real.columns["passt_embedding"][rows])
            for rows in drawn
        ]
    )
    value = comparison.systems["base"]["fd_passt"].value
    low, high = np.quantile(values - values.mean() + value, [0.025, 0.975])
    assert comparison.systems["base"]["fd_passt"].low == pytest.approx(low, rel=1e-6)
    assert comparison.systems["base"]["fd_passt"].high == pytest.approx(high, rel=1e-6)


def test_metrics_of_an_earlier_release_are_refused_in_words(comparison):
    content = comparison.to_dict()
    del content["counts"]
    with pytest.raises(UserError, match="of an earlier release"):
        Comparison.from_dict(content)


def test_metrics_nobody_measured_are_absent_not_zero():
    silent = {"quality": np.full(NUM_CLIPS, np.nan), "clap": np.full(NUM_CLIPS, np.nan)}
    systems = {name: system(seed, error=1.0, **silent) for name, seed in (("base", 2), ("aligned", 3))}
    comparison = compared(systems)
    assert comparison.win_rate == {}
    assert {"rater_quality", "clap_score"}.isdisjoint(comparison.differences["aligned"])
    assert {"rater_quality", "clap_score"}.isdisjoint(comparison.systems["base"])


def test_the_same_seed_gives_the_same_numbers_and_json_keeps_them(comparison):
    assert two_systems() == comparison
    assert Comparison.from_dict(comparison.to_dict()) == comparison


def test_three_systems_each_differ_from_the_reference_system_as_they_would_alone():
    systems = {
        "base": system(2, error=2.0),
        "aligned": system(3, error=0.5, scores=0.1),
        "other": system(4, error=1.0, scores=-0.05),
    }
    failed = {"base": {"a"}, "aligned": {"a", "b"}, "other": set()}
    three = compared(systems, failed=failed)
    assert three.others == ["aligned", "other"]
    assert three.failed == {"base": 1, "aligned": 2, "other": 0}
    for name in three.others:
        pair = compared(
            {key: systems[key] for key in ("base", name)}, failed={key: failed[key] for key in ("base", name)}
        )
        assert three.systems[name] == pair.systems[name]
        assert three.differences[name] == pair.differences[name]
        assert three.win_rate[name] == pair.win_rate[name]
    assert three.win_rate["aligned"].clips == NUM_CLIPS + 1, "the clip that both failed on is no loss of either"


def test_any_system_can_be_the_one_that_differences_are_taken_from(comparison):
    systems = {"base": system(2, error=2.0), "aligned": system(3, error=0.5, scores=0.1)}
    turned = compared(systems, reference="aligned")
    assert turned.systems == comparison.systems
    assert turned.others == ["base"]
    for metric in METRICS:
        change, back = comparison.differences["aligned"][metric.key], turned.differences["base"][metric.key]
        assert back.value == -change.value
        assert (back.low, back.high) == (pytest.approx(-change.high), pytest.approx(-change.low))


def test_a_clip_that_one_of_three_systems_has_no_number_for_counts_in_none():
    systems = {"base": system(2, error=1.0), "aligned": system(3, error=1.0), "other": system(4, error=1.0)}
    systems["other"].columns["clap"][:7] = np.nan
    comparison = compared(systems)
    assert comparison.counts["clap_score"] == NUM_CLIPS - 7
    mean = systems["base"].columns["clap"][7:].mean()
    assert comparison.systems["base"]["clap_score"].value == pytest.approx(mean)


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
