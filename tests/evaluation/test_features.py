import weakref

import numpy as np
import pytest
import torch

from v2a_dpo.evaluation.features import ClipAudio, FeatureExtractor
from v2a_dpo.evaluation.levels import MEASURED
from v2a_dpo.evaluation.systems import TENSORS
from v2a_dpo.media.errors import AudioMissing

SAMPLE_RATE, DURATION_S = 100, 2.0


class Recorder:
    """A tagger that tells mean, length and energy, and remembers what it heard."""

    def __init__(self):
        self.heard = []

    def tag(self, audio_BS, sample_rate):
        self.heard.append((tuple(audio_BS.shape), sample_rate))
        energy = audio_BS.square().sum(dim=1)
        return torch.stack([audio_BS.mean(dim=1), energy], dim=1), energy[:, None].repeat(1, 3)


def extract(*clips, quality=None):
    tagger = Recorder()
    extractor = FeatureExtractor({"panns": tagger, "passt": tagger}, duration_s=DURATION_S, quality=quality)
    return extractor.extract(clips), tagger


def floats(row, name):
    return np.frombuffer(row[name], np.float32)


def test_audio_is_centred_mixed_and_cut_but_not_padded():
    stereo = torch.stack([torch.ones(250), torch.linspace(-1, 1, 250) + 3.0])
    short = torch.rand(120)
    content, tagger = extract(ClipAudio("long", SAMPLE_RATE, stereo), ClipAudio("short", SAMPLE_RATE, short))
    assert [shape for shape, _ in tagger.heard[::2]] == [(1, 200), (1, 120)]
    mixed = stereo.mean(dim=0)
    expected = (mixed - mixed.mean())[:200]
    np.testing.assert_allclose(
        floats(content.rows[0], "passt_embedding"), [expected.mean(), expected.square().sum()], rtol=1e-5
    )


def test_equal_clips_are_tagged_together_and_keep_their_order():
    clips = [ClipAudio(f"clip-{k}", SAMPLE_RATE, torch.randn(200) * (k + 1)) for k in range(20)]
    content, tagger = extract(*clips)
    assert [shape[0] for shape, _ in tagger.heard] == [16, 16, 4, 4]
    assert [row["clip_id"] for row in content.rows] == [clip.clip_id for clip in clips]
    energies = [floats(row, "panns_logits")[0] for row in content.rows]
    expected = [(clip.audio - clip.audio.mean()).square().sum().item() for clip in clips]
    np.testing.assert_allclose(energies, expected, rtol=1e-5)


def test_what_cannot_be_used_is_quarantined_with_its_reason():
    good = ClipAudio("good", SAMPLE_RATE, torch.randn(200))
    broken = [
        ClipAudio("nan", SAMPLE_RATE, torch.full((200,), float("nan"))),
        ClipAudio("empty", SAMPLE_RATE, torch.zeros(0)),
        ClipAudio("unread", SAMPLE_RATE, AudioMissing("no sound")),
    ]
    content, _ = extract(broken[0], good, *broken[1:])
    assert [row["clip_id"] for row in content.rows] == ["good"]
    assert [(row.clip_id, row.error) for row in content.quarantined] == [
        ("nan", "AudioUnreadable"),
        ("empty", "AudioUnreadable"),
        ("unread", "AudioMissing"),
    ]
    assert "no sound" in content.quarantined[2].message


@pytest.mark.parametrize("rated", [False, True])
def test_the_rater_hears_the_audio_as_it_is(rated):
    heard = []

    def quality(clip_id, audio, sample_rate):
        heard.append((clip_id, audio, sample_rate))
        return 0.5

    audio = torch.randn(250) + 1
    content, _ = extract(ClipAudio("a", SAMPLE_RATE, audio), quality=quality if rated else None)
    assert content.rows[0]["quality"] == (0.5 if rated else None)
    assert [(clip_id, rate) for clip_id, _, rate in heard] == [("a", SAMPLE_RATE)] * rated
    assert all(torch.equal(sound, audio) for _, sound, _ in heard)


def test_the_schema_has_the_taggers_dimensions():
    schema = FeatureExtractor({"panns": Recorder(), "passt": Recorder()}, duration_s=DURATION_S).schema(SAMPLE_RATE)
    assert schema.arrow.names == ["clip_id", *TENSORS, "quality", *MEASURED]
    assert schema.arrow.field("passt_embedding").type.byte_width == 2 * 4
    assert schema.arrow.field("panns_logits").type.byte_width == 3 * 4


def test_no_more_sounds_are_held_than_are_tagged_at_once():
    alive, most = [], 0

    def clips():
        nonlocal most
        for number in range(80):
            audio = torch.randn(200)
            alive.append(weakref.ref(audio))
            yield ClipAudio(f"clip-{number}", SAMPLE_RATE, audio)
            del audio
            most = max(most, sum(reference() is not None for reference in alive))

    tagger = Recorder()
    extractor = FeatureExtractor({"panns": tagger, "passt": tagger}, duration_s=DURATION_S)
    assert len(extractor.extract(clips()).rows) == 80
    assert most <= 17
    assert max(shape[0] for shape, _ in tagger.heard) == 16


def test_levels_are_of_the_excerpt_before_its_mean_is_subtracted():
    audio = torch.full((400,), 0.5)
    audio[200:] = 1.0
    content, _ = extract(ClipAudio("steady", SAMPLE_RATE, audio))
    assert content.rows[0]["rms"] == pytest.approx(0.5)
    assert content.rows[0]["clipped_share"] == 0.0
