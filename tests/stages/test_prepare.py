from __future__ import annotations

import shutil
from functools import wraps

import numpy as np
import pytest
import torch

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import content_probe
from v2a_dpo.artifacts.schema import CLIPS, tensor_column
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.media.errors import MediaError
from v2a_dpo.stages.prepare import prepare
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, TinyModel, build


def _params(*, precision="float32", **prepare_settings):
    settings = {"duration_s": 2.0, "clips_per_shard": 4, "clips_per_batch": 3, **prepare_settings}
    generator = {"family": "tiny", "device": "cpu", "precision": precision}
    return Params.model_validate({"prepare": settings, "generator": generator})


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "generator"
    folder.mkdir()
    build(TinyEncoders(), PatchCodec(), seed=0).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory, write_video, turn_video, empty_video):
    """Every kind of file that users have, with a table that lists one clip twice and one that is not there."""
    folder = tmp_path_factory.mktemp("vidéos")
    sound = 0.1 * np.sin(np.arange(32_000) * 0.2, dtype=np.float32)[None]
    whole = write_video(folder / "good.mp4", audio=sound)
    write_video(folder / "mute.mp4", duration_s=5.0)
    turn_video(write_video(folder / "flat.mp4", width=96, height=64), folder / "turned.mp4")
    shutil.copy(whole, folder / "Größe 日本.mp4")
    write_video(folder / "short.mp4", duration_s=1.0)
    empty_video(folder / "empty.mp4")
    (folder / "text.mp4").write_text("not a video")
    (folder / "truncated.mp4").write_bytes(whole.read_bytes()[:2000])
    lines = ["clip_id,video,prompt,label,has_speech"]
    lines += [
        f"{name},{name}.mp4,a {name} clip,bell,false" for name in ("good", "mute", "turned", "short", "empty", "text")
    ]
    lines += [
        "truncated,truncated.mp4,,,",
        "good,mute.mp4,again,bell,true",
        "Größe,Größe 日本.mp4,,voice,true",
        "gone,gone.mp4,,,",
    ]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _run(folder, generator, output, params=None, **options):
    return prepare(
        params or _params(),
        videos=str(folder),
        captions=str(folder / "captions.csv") if (folder / "captions.csv").exists() else None,
        split="test",
        generator=generator,
        clips=str(output / "clips"),
        conditions=str(output / "conditions"),
        **options,
    )


@pytest.fixture(scope="module")
def prepared(damaged_folder, generator, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    return output, _run(damaged_folder, generator, output)


def test_good_clips_are_described(prepared):
    output, summary = prepared
    rows = {row["clip_id"]: row for row in Dataset.open(str(output / "clips"), CLIPS).table().to_pylist()}
    assert list(rows) == ["good", "mute", "turned", "Größe"]
    assert summary.rows == 4
    assert rows["good"]["has_audio"]
    assert not rows["mute"]["has_audio"]
    assert (rows["turned"]["width"], rows["turned"]["height"]) == (64, 96)
    assert rows["good"]["prompt"] == "a good clip"
    assert rows["Größe"]["prompt"] is None
    assert rows["Größe"]["has_speech"]
    assert rows["good"]["frame_rate"] == 25.0
    assert rows["good"]["duration_s"] == 2.0


def test_bad_clips_are_in_both_quarantines_with_their_reasons(prepared):
    output, summary = prepared
    found = Dataset.open(str(output / "clips")).quarantine().to_pylist()
    assert {(row["clip_id"], row["error"]) for row in found} == {
        ("short", "VideoTooShort"),
        ("empty", "VideoUnreadable"),
        ("text", "VideoUnreadable"),
        ("truncated", "VideoUnreadable"),
        ("good", "DuplicateClip"),
        ("gone", "VideoMissing"),
    }
    assert all("mp4" in row["message"] for row in found)
    assert Dataset.open(str(output / "conditions")).quarantine().to_pylist() == found
    assert summary.quarantined["VideoUnreadable"] == 3


def test_every_clip_has_conditions(prepared):
    output, _ = prepared
    conditions = Dataset.open(str(output / "conditions"), "conditions").table()
    clips = Dataset.open(str(output / "clips")).table(["clip_id"])
    assert conditions.column("clip_id").to_pylist() == clips.column("clip_id").to_pylist()
    features = tensor_column(conditions, "clip")
    assert features.shape[0] == 4
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[2])  # the turned one


def test_half_precision_conditions_are_made_anew_and_stay_close(prepared, damaged_folder, generator, tmp_path):
    output, first = prepared
    rounded = tmp_path / "rounded"
    shutil.copytree(output, rounded)
    again = _run(damaged_folder, generator, rounded, _params(precision="bfloat16"))
    assert again.rows == first.rows
    exact, close = (Dataset.open(str(folder / "conditions"), "conditions").table() for folder in (output, rounded))
    for name in ("clip", "sync"):
        expected, found = tensor_column(exact, name), tensor_column(close, name)
        difference = np.sqrt(np.mean((expected - found) ** 2) / np.mean(expected**2))
        assert 0 < difference < 0.05


def test_a_second_run_makes_nothing(prepared, damaged_folder, generator):
    output, first = prepared
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    again = _run(damaged_folder, generator, output)
    assert (again.made, again.kept, again.quarantined) == (0, first.made, first.quarantined)
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before


def test_a_killed_run_ends_with_the_same_bytes(prepared, damaged_folder, generator, tmp_path):
    output, _ = prepared
    resumed = tmp_path / "resumed"
    shutil.copytree(output, resumed)
    for lost in (
        "conditions/part-00001.parquet",
        "conditions/_manifest.json",
        "clips/_manifest.json",
        "clips/part-00000.parquet",
    ):
        (resumed / lost).unlink()
    _run(damaged_folder, generator, resumed)
    for file in output.rglob("*.parquet"):
        assert (resumed / file.relative_to(output)).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_worker_processes_give_the_same_conditions(prepared, damaged_folder, generator, tmp_path):
    output, _ = prepared
    _run(damaged_folder, generator, tmp_path, _params(workers=2))
    for name in ("clips", "conditions"):
        assert Dataset.open(str(tmp_path / name)).table().equals(Dataset.open(str(output / name)).table())


def test_shards_can_be_made_apart_and_finished_together(prepared, damaged_folder, generator, tmp_path):
    output, _ = prepared
    for index in (2, 0, 1):
        _run(damaged_folder, generator, tmp_path, shards=[index])
    summary = _run(damaged_folder, generator, tmp_path)
    assert summary.made == 0
    assert Dataset.open(str(tmp_path / "clips")).table().equals(Dataset.open(str(output / "clips")).table())


def test_a_video_that_turns_up_later_makes_only_its_own_shard_again(generator, tmp_path, write_video):
    folder = tmp_path / "videos"
    for name in "abcde":
        write_video(folder / f"{name}.mp4")
    (folder / "captions.csv").write_text("clip_id\na\nb\nc\nd\ne\nlate\n")
    assert _run(folder, generator, tmp_path / "out").quarantined == {"VideoMissing": 1}
    write_video(folder / "late.mp4")
    summary = _run(folder, generator, tmp_path / "out")
    assert (summary.made, summary.kept, summary.rows, summary.quarantined) == (1, 1, 6, {})


def test_a_replaced_video_makes_its_conditions_again(generator, tmp_path, write_video):
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4")
    _run(folder, generator, tmp_path / "out")
    before = tensor_column(Dataset.open(str(tmp_path / "out" / "conditions")).table(), "clip").copy()
    write_video(folder / "a.mp4", width=96)
    assert _run(folder, generator, tmp_path / "out").made == 1
    after = tensor_column(Dataset.open(str(tmp_path / "out" / "conditions")).table(), "clip")
    assert not np.array_equal(before, after)


def test_moved_videos_keep_their_conditions(generator, tmp_path, write_video):
    for name in "abcde":
        write_video(tmp_path / "here" / f"{name}.mp4")
    _run(tmp_path / "here", generator, tmp_path / "out")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "conditions").glob("*.parquet")}
    (tmp_path / "here").rename(tmp_path / "there")
    assert _run(tmp_path / "there", generator, tmp_path / "out").made == 2
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "conditions").glob("*.parquet")}
    assert after == before
    clips = Dataset.open(str(tmp_path / "out" / "clips"), CLIPS).table().column("video").to_pylist()
    assert clips == [f"{tmp_path}/there/{name}.mp4" for name in "abcde"]


def test_a_worker_looks_at_the_videos_of_its_own_shards_alone(generator, tmp_path, write_video, monkeypatch):
    folder = tmp_path / "videos"
    for name in "abcdefg":
        write_video(folder / f"{name}.mp4")
    (folder / "captions.csv").write_text("clip_id\na\nb\nc\nd\ne\na\nf\ng\n")
    looked_at = []

    def noted(uri):
        looked_at.append(uri[-5])
        return content_probe(uri)

    monkeypatch.setattr("v2a_dpo.data.clips.content_probe", noted)
    summary = _run(folder, generator, tmp_path / "out", shards=[1])
    assert sorted(looked_at) == ["e", "f", "g"]
    assert summary.quarantined == {"DuplicateClip": 1}
    assert summary.rows == 3
    with pytest.raises(UserError, match="Shard 2 is to be made, but there are only 2 now"):
        _run(folder, generator, tmp_path / "out", shards=[2])


def test_files_that_are_no_videos_are_counted_and_named(generator, tmp_path, write_video):
    folder = tmp_path / "videos"
    write_video(folder / "dogs" / "a.mp4")
    write_video(folder / "b.gif", codec="gif", pixels="rgb8", rate=20)
    for name in ("._b.mp4", "dogs/.DS_Store", "dogs/notes.txt", *(f"{n}.wav" for n in range(5))):
        (folder / name).write_bytes(b"\0\5\26\7")
    summary = _run(folder, generator, tmp_path / "out")
    assert summary.quarantined == {}
    rows = Dataset.open(str(tmp_path / "out" / "clips"), CLIPS).table().to_pylist()
    assert [row["clip_id"] for row in rows] == ["b", "dogs/a"]
    assert str(summary).endswith("; not taken for a video: 6 (0.wav, 1.wav, 2.wav, 3.wav, 4.wav and 1 more)")


def test_real_footage_without_captions_is_prepared(real_footage, generator, tmp_path):
    summary = prepare(
        _params(), videos=str(real_footage), captions=None, split="test", generator=generator,
        clips=str(tmp_path / "clips"), conditions=str(tmp_path / "conditions"),
    )  # fmt: skip
    rows = {row["clip_id"]: row for row in Dataset.open(str(tmp_path / "clips"), CLIPS).table().to_pylist()}
    assert summary.quarantined == {}
    assert {"bigbuckbunny", "bikes", "carphone_pristine"} <= set(rows)
    assert rows["bigbuckbunny"]["has_audio"]
    assert rows["bigbuckbunny"]["prompt"] is None


def test_a_folder_of_useless_files_is_a_mistake(generator, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    with pytest.raises(UserError, match=r"There are no videos\."):
        _run(folder, generator, tmp_path / "out")
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match=r"There are no videos; not taken for a video: 1 \(notes\.txt\)"):
        _run(folder, generator, tmp_path / "out")
    (folder / "text.mp4").write_text("nothing to see")
    with pytest.raises(UserError, match=r"None of 1 clips can be used.*1 VideoUnreadable"):
        _run(folder, generator, tmp_path / "out")


def test_progress_counts_clips_up_to_all(damaged_folder, generator, tmp_path):
    seen = []
    _run(damaged_folder, generator, tmp_path, progress=lambda text, done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (10, 10)


def test_conditions_that_are_not_finite_are_quarantined(generator, tmp_path, write_video, monkeypatch):
    real = TinyModel.extract_conditions

    @wraps(real)
    def extract(self, frames, prompts):
        conditions = real(self, frames, prompts)
        conditions.tensors["sync"][[prompt == "broken" for prompt in prompts]] = np.inf
        return conditions

    monkeypatch.setattr(TinyModel, "extract_conditions", extract)
    for name in ("whole", "broken"):
        write_video(tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "videos" / "captions.csv").write_text("clip_id,prompt\nwhole,whole\nbroken,broken\n")
    _run(tmp_path / "videos", generator, tmp_path)
    for name in ("clips", "conditions"):
        found = Dataset.open(str(tmp_path / name))
        assert found.table(["clip_id"]).column("clip_id").to_pylist() == ["whole"]
        assert [(row["clip_id"], row["error"]) for row in found.quarantine().to_pylist()] == [
            ("broken", "NonFiniteConditions")
        ]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_runs_out_loses_no_clip(error, generator, tmp_path, write_video, monkeypatch):
    @wraps(TinyModel.extract_conditions)
    def extract(self, frames, prompts):
        raise error

    write_video(tmp_path / "videos" / "clip.mp4")
    with monkeypatch.context() as full:
        full.setattr(TinyModel, "extract_conditions", extract)
        with pytest.raises(UserError, match=r"Memory ran out.*prepare\.clips_per_batch"):
            _run(tmp_path / "videos", generator, tmp_path)
    assert _run(tmp_path / "videos", generator, tmp_path).rows == 1


def test_a_store_that_fails_for_a_moment_loses_no_clip(generator, tmp_path, write_video, store):
    names = ["one", "two"]
    for name in names:
        store.put(f"{name}.mp4", write_video(tmp_path / f"{name}.mp4").read_bytes())
    (tmp_path / "videos").mkdir()
    lines = ["clip_id,video", *(f"{name},{store.uri}/{name}.mp4" for name in names)]
    (tmp_path / "videos" / "captions.csv").write_text("\n".join(lines) + "\n")
    with store.failing("two.mp4", after=1000), pytest.raises(UserError, match="cannot be read") as caught:
        _run(tmp_path / "videos", generator, tmp_path)
    assert not isinstance(caught.value, MediaError)
    summary = _run(tmp_path / "videos", generator, tmp_path)
    assert (summary.rows, summary.quarantined) == (2, {})
