"""The page about Python: its blocks run as printed, on a generator with random weights and a real video."""

import shutil
from pathlib import Path

import av
import pytest
import torch

from tests.docs.pages import ROOT, blocks
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build

SAMPLING, LOSS = blocks(ROOT / "docs" / "python-api.md", "python")


@pytest.fixture
def folder(tmp_path: Path, real_footage: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sounds = 0.1 * torch.randn(24, 32_000, generator=torch.Generator().manual_seed(1))
    model = build(TinyEncoders(), PatchCodec.fit(sounds), seed=1)
    (tmp_path / "artifacts" / "aligned").mkdir(parents=True)
    model.save(tmp_path / "artifacts" / "aligned")
    shutil.copy(real_footage / "bikes.mp4", tmp_path / "VIDEO.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_block_that_samples_gives_two_sounds_and_a_video_with_sound(folder: Path) -> None:
    names: dict = {}
    exec(SAMPLING, names)
    sounds = names["sounds"]
    assert sounds.audio.shape == (2, 2 * sounds.sample_rate)
    assert sounds.audio.abs().max() <= 1
    assert not torch.equal(sounds.audio[0], sounds.audio[1])
    with av.open(str(folder / "with-sound.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_the_block_about_the_loss_prints_what_its_comment_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict = {}
    exec(LOSS, names)
    loss, accuracy = map(float, capsys.readouterr().out.split())
    assert accuracy == names["result"].implicit_accuracy == 1.0
    assert 0 < loss < torch.tensor(2.0).log()
