import numpy as np
import pytest
import torch
import torchaudio

from v2a_dpo.evaluation.bootstrap import Interval
from v2a_dpo.evaluation.levels import LEVELS, integrated_loudness, mean_levels, sound_levels
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison
from v2a_dpo.evaluation.tables import level_table, to_markdown


def sine(sample_rate, *, hertz=997.0, amplitude=1.0, seconds=5.0):
    return amplitude * torch.sin(2 * torch.pi * hertz * torch.arange(round(sample_rate * seconds)) / sample_rate)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_a_sine_of_997_hertz_has_the_standards_loudness_at_full_scale_too(sample_rate, amplitude):
    # ITU-R BS.1770: 0 dB full scale in one channel reads -3.01 LKFS.
    expected = -3.01 + 20 * np.log10(amplitude)
    assert integrated_loudness(sine(sample_rate, amplitude=amplitude), sample_rate) == pytest.approx(expected, abs=0.05)


def test_quiet_noise_is_as_loud_as_torchaudio_says():
    noise = 0.02 * torch.randn(48_000 * 4, generator=torch.Generator().manual_seed(0))
    expected = torchaudio.functional.loudness(noise[None], 48_000).item()
    assert integrated_loudness(noise, 48_000) == pytest.approx(expected, abs=0.3)


def test_pauses_are_gated_out():
    tone = sine(48_000, amplitude=0.1)
    alone = integrated_loudness(tone, 48_000)
    with_pause = integrated_loudness(torch.cat([tone, torch.zeros(48_000 * 5)]), 48_000)
    with_murmur = integrated_loudness(torch.cat([tone, 0.03 * tone]), 48_000)
    # Blocks over the edge count in part.
    assert with_pause == pytest.approx(alone, abs=0.3)
    assert with_murmur == pytest.approx(alone, abs=0.3)


def test_silence_and_a_blink_of_sound_have_no_loudness():
    assert integrated_loudness(torch.zeros(48_000), 48_000) is None
    assert integrated_loudness(sine(48_000, seconds=0.39), 48_000) is None
    assert integrated_loudness(sine(48_000, seconds=0.41), 48_000) is not None


def test_rms_and_clipped_share_are_what_they_say():
    audio = torch.tensor([1.0, -1.0, 0.999, -0.999, 0.99, 0.0, 0.0, 0.0])
    levels = sound_levels(audio, 16_000)
    assert levels["clipped_share"] == 0.5
    assert levels["rms"] == pytest.approx(np.sqrt((2 + 2 * 0.999**2 + 0.99**2) / 8))
    assert levels["lufs"] is None


def test_means_leave_out_clips_without_a_level_and_none_is_none():
    columns = {
        "rms": np.array([0.1, 0.3]),
        "lufs": np.array([np.nan, -20.0]),
        "clipped_share": np.array([0.0, 0.5]),
        "passt_embedding": np.array([[3.0, 4.0], [0.0, 1.0]], np.float32),
    }
    assert mean_levels(columns) == {
        "rms": pytest.approx(0.2),
        "lufs": -20.0,
        "clipped_share": 0.25,
        "embedding_norm": 3.0,
    }
    assert mean_levels({**columns, "lufs": np.full(2, np.nan)})["lufs"] is None


def test_the_table_has_the_real_audio_first_and_marks_nothing():
    levels = {"rms": 0.0931, "lufs": -18.04, "clipped_share": 0.006, "embedding_norm": 16.5}
    given = {"real": {**levels, "lufs": None}, "base": levels, "aligned": {**levels, "clipped_share": 0.019}}
    one = {"ib_score": Interval(1.0, 0.5, 1.5)}
    comparison = Comparison(
        2,
        "base",
        {"base": one, "aligned": one},
        {"aligned": {}},
        {},
        counts={},
        failed={"base": 0, "aligned": 0},
        bootstrap=BootstrapSettings(resamples=200, fd_resamples=200, confidence=0.95, seed=0),
        levels=given,
    )
    assert to_markdown(level_table(comparison, caption="Levels.")).splitlines()[2:] == [
        f"|  | {' | '.join(level.title for level in LEVELS)} |",
        "| --- | --- | --- | --- | --- |",
        "| Real | 0.093 | – | 0.60% | 16.50 |",
        "| Base | 0.093 | −18.0 | 0.60% | 16.50 |",
        "| Aligned | 0.093 | −18.0 | 1.90% | 16.50 |",
    ]
    assert Comparison.from_dict(comparison.to_dict()) == comparison
