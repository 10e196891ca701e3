"""The generate stage on conditions made up here: what is written, by one process, by several, and in other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import TensorType, conditions_schema, tensor_column, tensor_type
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.generation.sampler import CandidateSampler
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.orchestration.devices import generate_on_devices
from v2a_dpo.stages.generate import generate
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build

SHARDS, CLIPS_PER_SHARD = 3, 5


def _params(precision="float32", **settings):
    settings = {"candidates": 2, "steps": 2, "guidance_scale": 2.0, "clips_per_batch": 2, **settings}
    generator = {"family": "tiny", "device": "cpu", "precision": precision}
    return Params.model_validate({"prepare": {"duration_s": 2.0}, "generate": settings, "generator": generator})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("loop")
    (root / "generator").mkdir()
    model = build(TinyEncoders(), PatchCodec.fit(torch.randn(8, 32_000) * 0.1), seed=0)
    with torch.no_grad():
        model.network.empty_string_feat.normal_(generator=torch.Generator().manual_seed(0))
        # An untrained network's output layer is zero.
        for parameter in model.network.final_layer.parameters():
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    model.save(root / "generator")
    empty = {name: row[0].shape for name, row in model.empty_conditions(2.0).tensors.items()}

    def make(shard):
        draw = np.random.default_rng(shard).standard_normal
        return ShardContent(
            [
                {"clip_id": f"{shard}-{clip}"}
                | {name: draw(shape).astype(np.float32).tobytes() for name, shape in empty.items()}
                for clip in range(CLIPS_PER_SHARD)
            ]
        )

    build_dataset(
        str(root / "conditions"),
        conditions_schema({name: TensorType("float32", tuple(shape)) for name, shape in empty.items()}),
        parameters={},
        inputs={},
        tasks=[ShardTask(shard, []) for shard in range(SHARDS)],
        code=NO_CODE,
        make=make,
    )
    return {"conditions": str(root / "conditions"), "generator": str(root / "generator")}


def _files(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def test_every_clip_has_its_candidates_in_order(folders, tmp_path):
    summary = generate(_params(), **folders, output=str(tmp_path / "out"))
    table = Dataset.open(str(tmp_path / "out"), "candidates").table()
    assert (summary.made, summary.rows, summary.quarantined) == (3, 30, {})
    expected = [(f"{shard}-{clip}", sample) for shard in range(3) for clip in range(5) for sample in range(2)]
    assert list(zip(table["clip_id"].to_pylist(), table["sample"].to_pylist(), strict=True)) == expected
    samples, sample_rate = decode_flac(table["audio"][7].as_py()["bytes"])
    assert (samples.shape, sample_rate) == ((32_000,), 16_000)


@pytest.mark.slow
def test_another_batch_size_keeps_what_is_there_and_would_make_the_same(folders, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    generate(_params(), **folders, output=str(first))
    assert generate(_params(clips_per_batch="auto"), **folders, output=str(first)).kept == SHARDS
    generate(_params(clips_per_batch="auto"), **folders, output=str(second))
    ours, others = (
        tensor_column(Dataset.open(str(folder), "candidates").table(), "latent") for folder in (first, second)
    )
    assert np.abs(ours.astype(np.float32) - others).max() <= 2e-3 * np.abs(ours).max()
    assert generate(_params(precision="bfloat16"), **folders, output=str(first)).made == SHARDS


@pytest.mark.slow
def test_without_text_a_clip_is_sampled_as_if_it_had_no_prompt_and_its_rows_say_so(folders, tmp_path):
    """The made-up conditions have text; a copy of them with the model's empty text is what clips without a prompt
    have."""
    source = Dataset.open(folders["conditions"], "conditions").table()
    empty_text = load_file(f"{folders['generator']}/model.safetensors")["empty_string_feat"]
    build_dataset(
        str(tmp_path / "wordless"),
        conditions_schema({name: tensor_type(source.schema.field(name)) for name in ("clip", "sync", "text")}),
        parameters={},
        inputs={},
        tasks=[ShardTask([row | {"text": empty_text.numpy().tobytes()} for row in source.to_pylist()], [])],
        code=NO_CODE,
        make=ShardContent,
    )
    made = {}
    for name, params, conditions in (
        ("with text", _params(), folders["conditions"]),
        ("switched off", _params(use_text=False), folders["conditions"]),
        ("no prompt", _params(), str(tmp_path / "wordless")),
    ):
        generate(params, conditions=conditions, generator=folders["generator"], output=str(tmp_path / name))
        made[name] = Dataset.open(str(tmp_path / name), "candidates").table()
    latents = {name: tensor_column(table, "latent") for name, table in made.items()}
    np.testing.assert_allclose(latents["switched off"], latents["no prompt"], atol=2e-3)
    assert np.abs(latents["switched off"] - latents["with text"]).max() > 0.01
    assert {name: table["use_text"].unique().to_pylist() for name, table in made.items()} == {
        "with text": [True], "switched off": [False], "no prompt": [True],
    }  # fmt: skip


def test_the_switch_for_text_is_part_of_what_candidates_are(folders, tmp_path):
    output = str(tmp_path / "out")
    generate(_params(), **folders, output=output)
    assert generate(_params(use_text=False), **folders, output=output).made == SHARDS
    assert generate(_params(), **folders, output=output, use_text=False).kept == SHARDS


@pytest.mark.slow
def test_several_processes_make_the_same_bytes_as_one(folders, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    generate(_params(), **folders, output=str(alone))
    reports = []
    summary = generate_on_devices(
        _params(), devices=2, **folders, output=str(together), progress=lambda *report: reports.append(report)
    )
    assert (summary.made, summary.kept, summary.rows) == (3, 0, 30)
    assert reports[-1] == ("Generating", 3, 3)
    assert _files(together) == _files(alone)


@pytest.mark.parametrize("duration_s", [2.1, 4.0])
def test_conditions_of_another_duration_are_refused_before_anything_is_drawn(duration_s, folders, tmp_path):
    params = _params().model_copy(update={"prepare": _params().prepare.model_copy(update={"duration_s": duration_s})})
    with pytest.raises(UserError, match=f"not those of clips of {duration_s:g} s .*prepare.duration_s"):
        generate(params, **folders, output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_mistake_is_told_by_several_processes_as_by_one(folders, tmp_path):
    params = _params().model_copy(update={"prepare": _params().prepare.model_copy(update={"duration_s": 4.0})})
    with pytest.raises(UserError, match="not those of clips of 4 s") as caught:
        generate_on_devices(params, devices=2, **folders, output=str(tmp_path / "out"))
    assert (caught.value.where, "prepare.duration_s" in caught.value.remedy) == (folders["conditions"], True)


def test_memory_that_runs_out_loses_no_clip_and_the_stage_goes_on_where_it_stopped(folders, tmp_path, monkeypatch):
    alone, resumed = tmp_path / "alone", tmp_path / "resumed"
    generate(_params(), **folders, output=str(alone))
    real = CandidateSampler.latents

    def latents(self, clip_ids, conditions, **options):
        if "1-2" in clip_ids:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, clip_ids, conditions, **options)

    with monkeypatch.context() as shared_gpu:
        shared_gpu.setattr(CandidateSampler, "latents", latents)
        with pytest.raises(UserError, match="Memory ran out"):
            generate(_params(), **folders, output=str(resumed))
    assert [file.name for file in resumed.glob("*.parquet")] == ["part-00000.parquet"]
    summary = generate(_params(), **folders, output=str(resumed))
    assert (summary.made, summary.kept, summary.quarantined) == (2, 1, {})
    assert _files(resumed) == _files(alone)
