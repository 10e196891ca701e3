from __future__ import annotations

import json
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS, SCORES, TensorType, candidates_schema
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.media.errors import MediaError
from v2a_dpo.stages.generate import generate
from v2a_dpo.stages.prepare import prepare
from v2a_dpo.stages.score import score
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.scoring import SCORER_NAMES, build_scorer, save_scorer, store_marginal
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import SAMPLE_RATE, make_split

NAMES = ("imagebind", "clap", "desync", "inception", "pesq")


def _params(**score_settings):
    return Params.model_validate(
        {
            "generator": {"family": "tiny", "device": "cpu"},
            "prepare": {"duration_s": 2.0, "clips_per_shard": 2},
            "generate": {"candidates": 2, "steps": 2, "guidance_scale": 2.0},
            "score": {"scorers": "tiny", "clips_per_batch": 2, "pesq_workers": 1, **score_settings},
        }
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A generator and scorers with random weights: what they say is poor, how they are used is real."""
    root = tmp_path_factory.mktemp("models")
    (root / "generator").mkdir()
    build(TinyEncoders(), PatchCodec(), seed=0).save(root / "generator")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in SCORER_NAMES:
            save_scorer(root / "scorers", name, build_scorer(name))
    store_marginal(root / "scorers")
    return root


@pytest.fixture(scope="module")
def clip_events():
    """Two clips with speech and two without."""
    clips = make_split(3, "test", 40)
    voices = [clip for clip in clips if clip.has_speech][:2]
    return [*voices, *[clip for clip in clips if not clip.has_speech][:2]]


@pytest.fixture(scope="module")
def prepared(models, clip_events, tmp_path_factory, write_video):
    """Prepared clips: four of the tiny world, one of them without a prompt, and a mute one that claims to speak."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "videos").mkdir()
    lines = ["clip_id,prompt,has_speech"]
    for number, events in enumerate(clip_events):
        write_clip_mp4(root / "videos" / f"{events.clip_id}.mp4", events)
        lines.append(f"{events.clip_id},{'' if number == 1 else events.prompt},{str(events.has_speech).lower()}")
    write_video(root / "videos" / "mute.mp4")
    (root / "videos" / "captions.csv").write_text("\n".join([*lines, "mute,a voice,true"]) + "\n")
    prepare(
        _params(), videos=str(root / "videos"), captions=str(root / "videos" / "captions.csv"), split="test",
        generator=str(models / "generator"), clips=str(root / "clips"), conditions=str(root / "conditions"),
    )  # fmt: skip
    return root


def _row(clip_id, sample, audio):
    flac = audio if isinstance(audio, bytes) else encode_flac(torch.as_tensor(audio), SAMPLE_RATE)
    return {
        "clip_id": clip_id, "sample": sample, "seed": 0, "steps": 1, "guidance_scale": 1.0, "use_text": True,
        "sample_rate": SAMPLE_RATE, "latent": np.zeros((2, 2), np.float16).tobytes(),
        "audio": {"bytes": flac, "path": None},
    }  # fmt: skip


def _write_candidates(folder, shards):
    build_dataset(
        str(folder), candidates_schema(TensorType("float16", (2, 2))), parameters="test", inputs={},
        tasks=[ShardTask(index, [str(index)]) for index in range(len(shards))],
        code=NO_CODE, make=lambda index: ShardContent(shards[index]),
    )  # fmt: skip
    return str(folder)


@pytest.fixture(scope="module")
def candidates(prepared, clip_events, tmp_path_factory):
    """For each clip its true sound and noise; the mute clip has a single candidate."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
    pairs = [[_row(events.clip_id, 0, render_audio(events)), _row(events.clip_id, 1, noise)] for events in clip_events]
    shards = [pairs[0] + pairs[1] + pairs[2], [*pairs[3], _row("mute", 0, noise)]]
    return _write_candidates(tmp_path_factory.mktemp("candidates") / "test", shards)


def _score(prepared, models, candidates, output, params=None, **options):
    return score(
        params or _params(), clips=str(prepared / "clips"), candidates=candidates, scorers=str(models / "scorers"),
        output=str(output), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored(prepared, models, candidates, tmp_path_factory):
    output = tmp_path_factory.mktemp("scores") / "test"
    summary = _score(prepared, models, candidates, output)
    return output, summary, Dataset.open(str(output), SCORES).table().to_pylist()


def test_every_candidate_has_a_row_in_order(scored, clip_events):
    _, summary, rows = scored
    expected = [(events.clip_id, sample) for events in clip_events for sample in (0, 1)]
    assert [(row["clip_id"], row["sample"]) for row in rows] == [*expected, ("mute", 0)]
    assert summary.quarantined == {}


def test_scores_that_do_not_apply_are_null_with_their_reason(scored, clip_events):
    _, _, rows = scored
    for row in rows:
        reasons = json.loads(row["missing"]) if row["missing"] else {}
        assert {name for name in NAMES if row[name] is None} == set(reasons)
        if row["clip_id"] == "mute":
            assert reasons == {"pesq": "the clip has no sound of its own"}
        elif row["clip_id"] == clip_events[1].clip_id:
            assert reasons == {"clap": "the clip has no text"}
        elif row["clip_id"] == clip_events[0].clip_id:
            assert reasons == {}
        else:
            assert reasons == {"pesq": "the clip has no human speech"}


def test_the_true_sound_of_a_speaker_has_the_better_pesq(scored, clip_events):
    _, _, rows = scored
    pesq = {(row["clip_id"], row["sample"]): row["pesq"] for row in rows}
    for events in clip_events[:2]:
        assert pesq[events.clip_id, 0] > pesq[events.clip_id, 1] + 1.0


def test_scores_lie_in_their_ranges(scored):
    _, _, rows = scored
    for row in rows:
        assert -1.0 <= row["imagebind"] <= 1.0
        assert row["desync"] >= 0.0
        assert row["inception"] >= -1e-6


def test_the_batch_size_does_not_matter(scored, prepared, models, candidates, tmp_path):
    _, _, rows = scored
    _score(prepared, models, candidates, tmp_path, _params(clips_per_batch=1))
    again = Dataset.open(str(tmp_path), SCORES).table().to_pylist()
    for one, other in zip(rows, again, strict=True):
        assert one["missing"] == other["missing"]
        assert [other[name] for name in NAMES] == pytest.approx([one[name] for name in NAMES], abs=1e-4, nan_ok=True)


def test_a_second_run_makes_nothing_and_a_killed_one_ends_with_the_same_bytes(
    scored, prepared, models, candidates, tmp_path
):
    output, _, _ = scored
    assert _score(prepared, models, candidates, output).made == 0
    shutil.copytree(output, tmp_path / "resumed")
    (tmp_path / "resumed" / "_manifest.json").unlink()
    (tmp_path / "resumed" / "part-00001.parquet").unlink()
    summary = _score(prepared, models, candidates, tmp_path / "resumed")
    assert (summary.made, summary.kept) == (1, 1)
    for file in output.iterdir():
        assert (tmp_path / "resumed" / file.name).read_bytes() == file.read_bytes()


def test_shards_can_be_scored_apart(scored, prepared, models, candidates, tmp_path):
    output, _, _ = scored
    _score(prepared, models, candidates, tmp_path, shards=[1])
    _score(prepared, models, candidates, tmp_path, shards=[0])
    assert _score(prepared, models, candidates, tmp_path).made == 0
    assert (tmp_path / "part-00001.parquet").read_bytes() == (output / "part-00001.parquet").read_bytes()


def test_damaged_candidates_and_vanished_videos_are_quarantined(prepared, models, clip_events, tmp_path):
    shutil.copytree(prepared / "clips", tmp_path / "clips")
    audio = render_audio(clip_events[2])
    rows = [
        _row(clip_events[0].clip_id, 0, b"fLaC nonsense"),
        _row(clip_events[2].clip_id, 0, audio),
        _row(clip_events[3].clip_id, 0, audio),
        _row(clip_events[3].clip_id, 1, audio[:-100]),
        _row("mute", 0, audio),
    ]
    candidates = _write_candidates(tmp_path / "candidates", [rows])
    video = prepared / "videos" / "mute.mp4"
    video.rename(tmp_path / "away.mp4")
    try:
        summary = _score(prepared, models, candidates, tmp_path / "scores")
    finally:
        (tmp_path / "away.mp4").rename(video)
    assert summary.rows == 1
    found = Dataset.open(str(tmp_path / "scores")).quarantine().to_pylist()
    assert {(row["clip_id"], row["error"]) for row in found} == {
        (clip_events[0].clip_id, "AudioUnreadable"),
        (clip_events[3].clip_id, "AudioUnreadable"),
        ("mute", "VideoMissing"),
    }


def test_candidates_of_other_clips_are_a_mistake(prepared, models, tmp_path):
    candidates = _write_candidates(tmp_path / "candidates", [[_row("stranger", 0, np.zeros(32_000, np.float32))]])
    with pytest.raises(UserError, match="stranger"):
        _score(prepared, models, candidates, tmp_path / "scores")


def test_unknown_scorers_are_a_mistake(prepared, models, candidates, tmp_path):
    with pytest.raises(UserError, match="official"):
        _score(prepared, models, candidates, tmp_path, _params(scorers="official"))


def test_new_scorers_score_everything_anew(scored, prepared, models, candidates, tmp_path):
    shutil.copytree(scored[0], tmp_path / "scores")
    shutil.copytree(models / "scorers", tmp_path / "other")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_scorer(tmp_path / "other", "clap", build_scorer("clap"))
    store_marginal(tmp_path / "other")
    summary = score(
        _params(), clips=str(prepared / "clips"), candidates=candidates, scorers=str(tmp_path / "other"),
        output=str(tmp_path / "scores"),
    )  # fmt: skip
    assert (summary.made, summary.kept) == (2, 0)
    clap = [row["clap"] for row in scored[2]]
    assert [row["clap"] for row in Dataset.open(str(tmp_path / "scores"), SCORES).table().to_pylist()] != clap


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_sounds_that_do_not_last_as_long_as_their_clip_are_refused(seconds, prepared, models, clip_events, tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    rows = [_row(clip_events[0].clip_id, 0, noise.astype(np.float32))]
    candidates = _write_candidates(tmp_path / "candidates", [rows])
    with pytest.raises(UserError, match=f"{seconds:.2f} s, the clip 2.00 s"):
        _score(prepared, models, candidates, tmp_path / "scores")


def test_memory_that_runs_out_loses_no_clip(prepared, models, candidates, tmp_path, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr("v2a_dpo.scoring.engine.score_batch", Mock(side_effect=MemoryError()))
        with pytest.raises(UserError, match=r"Memory ran out.*score\.clips_per_batch"):
            _score(prepared, models, candidates, tmp_path)
    assert _score(prepared, models, candidates, tmp_path).quarantined == {}


def test_a_store_that_fails_for_a_moment_loses_no_clip(prepared, models, clip_events, store, tmp_path):
    videos = prepared / "videos"
    store.put("clip.mp4", (videos / f"{clip_events[0].clip_id}.mp4").read_bytes())
    rows = Dataset.open(str(prepared / "clips")).table().to_pylist()
    row = next(row for row in rows if row["clip_id"] == clip_events[0].clip_id) | {"video": f"{store.uri}/clip.mp4"}
    build_dataset(
        str(tmp_path / "clips"), CLIPS, parameters="test", inputs={}, tasks=[ShardTask(0, [])],
        code=NO_CODE, make=lambda _: ShardContent([row]),
    )  # fmt: skip
    candidates = _write_candidates(
        tmp_path / "candidates", [[_row(clip_events[0].clip_id, 0, render_audio(clip_events[0]))]]
    )
    with store.failing("clip.mp4", after=0), pytest.raises(UserError, match="cannot be read") as caught:
        _score(tmp_path, models, candidates, tmp_path / "scores")
    assert not isinstance(caught.value, MediaError)
    summary = _score(tmp_path, models, candidates, tmp_path / "scores")
    assert (summary.rows, summary.quarantined) == (1, {})


def test_real_footage_runs_through_with_the_tiny_models(real_footage, models, tmp_path):
    folders = {name: str(tmp_path / name) for name in ("clips", "conditions", "candidates", "scores")}
    prepare(
        _params(), videos=str(real_footage), captions=None, split="test", generator=str(models / "generator"),
        clips=folders["clips"], conditions=folders["conditions"],
    )  # fmt: skip
    generate(
        _params(), conditions=folders["conditions"], generator=str(models / "generator"), output=folders["candidates"]
    )
    summary = score(
        _params(), clips=folders["clips"], candidates=folders["candidates"], scorers=str(models / "scorers"),
        output=folders["scores"],
    )  # fmt: skip
    rows = Dataset.open(folders["scores"], SCORES).table().to_pylist()
    assert summary.rows == 2 * Dataset.open(folders["clips"]).num_rows == len(rows)
    assert all(row["imagebind"] is not None and row["clap"] is None and row["pesq"] is None for row in rows)
