"""Whose fault it is when a clip cannot be evaluated: the model's, the clip's, or that of a service that is away."""

import json
import socket

import av
import pytest

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import read_audio
from v2a_dpo.stages.gate import gate


def lenient(loop, **gates):
    gates = {"min_clips": 2, "must_improve": [], "must_not_worsen": {}} | gates
    return loop.with_settings(evaluate={"min_paired": 0.7}, gates=gates)


def test_a_clip_that_only_the_aligned_model_fails_on_is_counted_against_it(loop, evaluated, new_system, tmp_path):
    clip_ids = Dataset.open(loop.folder("clips")).table(["clip_id"]).column("clip_id").to_pylist()
    broken = clip_ids[2:4]
    damage = {"bytes": b"no sound", "path": None}
    aligned = new_system(
        "aligned", of="aligned", change=lambda row: {**row, "audio": damage} if row["clip_id"] in broken else row
    )
    text = loop.evaluate(tmp_path / "out", params=lenient(loop), aligned=aligned)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["clips"], metrics["failed"]) == (10, {"base": 0, "aligned": 2})
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["failed"] == {"base": [], "aligned": broken}
    assert (tmp_path / "out" / "table.md").read_text().count("though another system made some: base 0, aligned 2.") == 3
    assert "base 0, aligned 2" in text

    rows = Dataset.open(f"{evaluated[0]}/per-clip").table().to_pylist()
    quality = {(row["clip_id"], row["system"]): row["rater_quality"] for row in rows}
    wins = [quality[clip, "aligned"] > quality[clip, "base"] for clip in clip_ids if clip not in broken]
    assert metrics["win_rate"]["aligned"]["value"] == pytest.approx(sum(wins) / 12), "a clip without sound is lost"

    refused = gate(lenient(loop), evaluation=str(tmp_path / "out"), output=str(tmp_path / "gate.json"))
    assert refused.failures == ["failed clips at most 0.5% more than the reference: 2 of 12 against 0"]
    allowed = lenient(loop, max_more_failures=0.2)
    assert gate(allowed, evaluation=str(tmp_path / "out"), output=str(tmp_path / "gate.json")).passed


@pytest.mark.slow
@pytest.mark.usefixtures("s3_environment")
def test_a_storage_service_that_is_away_costs_no_clip_of_a_finished_shard(
    loop, new_system, write_rows, tmp_path, monkeypatch
):
    rows = Dataset.open(loop.folder("clips"), CLIPS).table().to_pylist()
    rows[3]["video"] = "s3://bucket/clip.mp4"
    write_rows(tmp_path / "clips", CLIPS, rows)
    clips = Dataset.open(str(tmp_path / "clips")).fingerprint
    systems = {name: new_system(name, of=name, made_of={"clips": clips}) for name in ("base", "aligned")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be read"):
            loop.evaluate(tmp_path / "out", **systems, clips=str(tmp_path / "clips"))
    assert not list((tmp_path / "out").rglob("part-*.parquet"))


@pytest.mark.parametrize("error", [MemoryError("no memory left"), RuntimeError("DefaultCPUAllocator: out of memory")])
def test_memory_that_runs_out_while_a_clip_is_read_stops_the_stage(loop, tmp_path, monkeypatch, error):
    def read_audio(*_, **__):
        raise error

    monkeypatch.setattr("v2a_dpo.evaluation.inputs.read_audio", read_audio)
    with pytest.raises(type(error)):
        loop.evaluate(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("part-*.parquet"))


def test_memory_that_runs_out_inside_the_decoder_is_no_fault_of_the_clip(loop, monkeypatch):
    video = Dataset.open(loop.folder("clips"), CLIPS).table(["video"]).column("video")[0].as_py()

    def no_memory(*_, **__):
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr("v2a_dpo.media.audio._mono_pieces", no_memory)
    with pytest.raises(MemoryError):
        read_audio(video, sample_rate=16_000)
