import pytest
import torch

from v2a_dpo.errors import UserError
from v2a_dpo.tiny.codec import log_mel
from v2a_dpo.tiny.media import render_arrays
from v2a_dpo.tiny.pretraining import one_cycle, prepare_scorer_data, train_scorer, train_scorers
from v2a_dpo.tiny.scoring import SCORER_NAMES, Synchronisation, TinyScorers, build_scorer
from v2a_dpo.tiny.world import CLASSES, SAMPLE_RATE, make_split


@pytest.fixture(scope="module")
def data():
    return prepare_scorer_data(make_split(0, "pretrain", 160), seed=0)


@pytest.fixture(scope="module")
def clips():
    return render_arrays(make_split(0, "test", 48))


def test_a_briefly_trained_tagger_names_most_classes(data, clips):
    tagger = train_scorer("passt", data, steps=60, seed=0)
    labels = torch.tensor([CLASSES.index(events.label) for events in clips.clip_events])
    assert (tagger.tag(clips.audio, SAMPLE_RATE)[1].argmax(dim=1) == labels).float().mean() > 0.8


@pytest.mark.parametrize("name", ["panns", "passt"])
def test_every_tagger_gives_the_embedding_first_and_the_class_logits_second(name, clips):
    network = build_scorer(name).eval()
    with torch.inference_mode():
        expected = network.trunk(log_mel(clips.audio))
        embedding, logits = network.tag(clips.audio, SAMPLE_RATE)
    torch.testing.assert_close(embedding, expected)
    assert logits.shape == (len(clips.audio), len(CLASSES))


def test_a_briefly_trained_text_scorer_prefers_true_prompts(data, clips):
    scorer = train_scorer("clap", data, steps=60, seed=0)
    prompts = [events.prompt for events in clips.clip_events]
    cosines = scorer.embed_audio(clips.audio, SAMPLE_RATE) @ scorer.embed_text(prompts).T
    others = (cosines.sum() - cosines.diag().sum()) / (cosines.numel() - len(cosines))
    assert cosines.diag().mean() - others > 0.3


def test_a_correlation_finds_the_lag_of_a_delayed_signal():
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(1, 200, 8, generator=generator)
    synchronisation = Synchronisation()
    for lag in (-20, -3, 0, 7, 20):
        video, audio = signal[:, 60:124], signal[:, 60 - lag : 124 - lag]
        best = synchronisation.offset_logits(audio, video).argmax(dim=1)
        assert synchronisation.offset_grid_s[best].item() == lag / 32


def test_desync_lies_on_the_grid_and_is_zero_for_a_certain_match():
    synchronisation = Synchronisation()
    synchronisation.log_scale.data.fill_(10.0)
    features = torch.randn(3, 64, 8, generator=torch.Generator().manual_seed(1))
    assert synchronisation.desync_s(features, features).tolist() == [0.0, 0.0, 0.0]
    uncertain = Synchronisation().desync_s(torch.zeros(1, 64, 8), features[:1])
    assert uncertain.item() == pytest.approx(10 / 32)


def test_lags_shift_the_sound_and_not_the_pictures(data):
    from v2a_dpo.tiny.pretraining import _augmented_mel

    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0])
    quiet = type(data)(data.mels, data.frames, data.tokens, data.labels, torch.full_like(data.noise_mels, -10.0))
    still = _augmented_mel(quiet, rows, generator, lags=torch.tensor([0]))
    late = _augmented_mel(quiet, rows, generator, lags=torch.tensor([5]))
    torch.testing.assert_close(late[:, :, 10:], still[:, :, :-10], atol=1e-3, rtol=0)


@pytest.mark.slow
def test_scorers_are_saved_resumed_and_loaded(tmp_path, clips):
    reports = []
    train_scorers(tmp_path, seed=0, num_clips=70, steps=2, progress=lambda done, total: reports.append((done, total)))
    first = TinyScorers.load(tmp_path)
    assert reports[-1][0] == reports[-1][1]
    (tmp_path / "clap.safetensors").unlink()
    kept = {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in SCORER_NAMES if name != "clap"}
    train_scorers(tmp_path, seed=0, num_clips=70, steps=2)
    assert kept == {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in kept}
    second = TinyScorers.load(tmp_path)
    embeddings = [scorers.clap.embed_audio(clips.audio, SAMPLE_RATE) for scorers in (first, second)]
    torch.testing.assert_close(*embeddings)
    logits = [scorers.panns.tag(clips.audio, SAMPLE_RATE)[1] for scorers in (first, second)]
    assert torch.equal(*logits)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="pretrain"):
        TinyScorers.load(tmp_path)
    with pytest.raises(UserError, match="no tiny scorer"):
        build_scorer("vggish")


def test_the_schedule_rises_then_falls_to_its_floor():
    factors = [one_cycle(step, 100) for step in range(100)]
    assert max(factors) == factors[19] == pytest.approx(1.0)
    assert factors[19:] == sorted(factors[19:], reverse=True)
    assert factors[-1] == pytest.approx(0.01, abs=0.01)
    assert [one_cycle(step, 1) for step in range(1)] == [1.0]
