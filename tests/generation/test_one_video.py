"""Sound for one video, from the command line: what the switch for text does."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from v2a_dpo.cli.main import app
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.world import make_split

PARAMS = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def test_without_text_a_prompt_is_as_if_it_were_not_given(tmp_path):
    (events,) = make_split(0, "test", 1)
    write_clip_mp4(tmp_path / "film.mp4", events)
    (tmp_path / "generator").mkdir()
    model = build(TinyEncoders(), PatchCodec.fit(torch.randn(8, 32_000) * 0.1), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    model.save(tmp_path / "generator")

    def sound(name, *options):
        arguments = ["--video", str(tmp_path / "film.mp4"), "--generator", str(tmp_path / "generator")]
        settings = ["--params", str(PARAMS), "--set", "generate.steps=2"]
        done = CliRunner().invoke(
            app, ["generate", *arguments, "--out", str(tmp_path / name), *settings, *options], catch_exceptions=False
        )
        assert done.exit_code == 0
        return (tmp_path / name / "film-0.wav").read_bytes()

    with_text = sound("with", "--prompt", "a bell rings")
    without = sound("without")
    assert with_text != without
    assert sound("switched off", "--prompt", "a bell rings", "--no-text") == without
    assert sound("by parameter", "--prompt", "a bell rings", "--set", "generate.use_text=false") == without
