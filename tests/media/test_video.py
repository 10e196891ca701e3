from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torchvision.transforms import v2 as transforms

from v2a_dpo.media.errors import VideoMissing, VideoTooShort, VideoUnreadable
from v2a_dpo.media.frames import FrameStream
from v2a_dpo.media.video import pick_frame_indices, probe, read_frames, resize

GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio_video"
CLIP = FrameStream("clip", 8.0, 384, 384, "stretch")
SYNC = FrameStream("sync", 25.0, 224, 224, "crop")
SMALL = FrameStream("small", 25.0, 32, 32, "stretch")


@pytest.mark.parametrize(
    "case", json.loads((GOLDEN / "frame_rate_rule.json").read_text())["cases"], ids=lambda case: f"{case['fps']} fps"
)
def test_frames_are_picked_as_mmaudio_picks_them(case):
    times_s = [index / case["fps"] for index in range(round(10 * case["fps"]))]
    clip = pick_frame_indices(times_s, 8, 8.0)
    sync = pick_frame_indices(times_s, 25, 8.0)
    assert clip[:24] == case["clip_first_24"]
    assert len(clip) == case["clip_count_8s"]
    assert sync[:60] == case["sync_first_60"]
    assert len(sync) == case["sync_count_8s"]


@pytest.mark.parametrize("size", ["90x160", "241x135"])
def test_pictures_are_resized_as_mmaudio_resizes_them(size):
    tensors = load_file(GOLDEN / "tiny.safetensors")
    facts = json.loads((GOLDEN / "tiny.json").read_text())["cases"][size]
    picture = torch.from_numpy(tensors[f"inputs.{size}"]).permute(2, 0, 1)
    clip = resize(picture, CLIP).numpy() / 255.0
    sync = resize(picture, SYNC).numpy() / 127.5 - 1.0
    clip_error = np.abs(clip[:, 1::6, 2::6] - tensors[f"outputs.{size}.clip_strided"][0])
    sync_error = np.abs(sync[:, 1::4, 2::4] - tensors[f"outputs.{size}.sync_strided"][0])
    assert clip_error.max() < 1.01 / 255
    assert sync_error.max() < 2.02 / 255
    assert clip_error.mean() < 2e-4
    assert sync_error.mean() < 2e-4
    assert clip.mean() == pytest.approx(facts["clip_mean"], abs=2e-4)
    assert sync.mean() == pytest.approx(facts["sync_mean"], abs=2e-4)


@pytest.mark.parametrize("name", list(json.loads((GOLDEN / "clips.json").read_text())))
def test_real_clips_give_the_frames_that_mmaudio_reads(name):
    """Runs where V2A_DPO_REAL_CLIPS names the folder of the two example clips, which are not redistributed."""
    path = Path(os.environ.get("V2A_DPO_REAL_CLIPS", ".")) / name
    if not path.exists():
        pytest.skip("V2A_DPO_REAL_CLIPS does not name the folder of MMAudio's example clips")
    golden = json.loads((GOLDEN / "clips.json").read_text())[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == golden["sha256"]
    facts = probe(str(path))
    assert (facts.width, facts.height, facts.frame_rate) == (
        golden["width"],
        golden["height"],
        float(golden["average_rate"]),
    )
    frames = read_frames(str(path), [CLIP, SYNC], duration_s=8.0)
    expected = golden["mmaudio"]["8.0"]
    assert list(frames["clip"].shape) == expected["clip_frames"]
    assert list(frames["sync"].shape) == expected["sync_frames"]
    clip, sync = frames["clip"].float() / 255, frames["sync"].float() / 127.5 - 1
    assert float(clip.mean()) == pytest.approx(expected["clip_mean"], abs=1e-4)
    assert float(sync.mean()) == pytest.approx(expected["sync_mean"], abs=2e-4)
    assert float(sync.std()) == pytest.approx(expected["sync_std"], abs=1e-3)


@pytest.mark.parametrize("shape", [(3, 90, 160), (3, 241, 135), (3, 224, 301), (3, 719, 1279)])
def test_resizing_equals_torchvision_bit_by_bit(shape):
    picture = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))
    kind = {"interpolation": transforms.InterpolationMode.BICUBIC, "antialias": True}
    stretched = transforms.Resize((384, 384), **kind)(picture)
    cropped = transforms.CenterCrop(224)(transforms.Resize(224, **kind)(picture))
    assert torch.equal(resize(picture, CLIP), stretched)
    assert torch.equal(resize(picture, SYNC), cropped)


def test_real_footage_is_probed_and_read(real_footage):
    facts = probe(str(real_footage / "bigbuckbunny.mp4"))
    assert (facts.width, facts.height, facts.frame_rate, facts.has_audio) == (1280, 720, 25.0, True)
    assert facts.duration_s == pytest.approx(5.28)
    assert not probe(str(real_footage / "bikes.mp4")).has_audio
    frames = read_frames(str(real_footage / "carphone_pristine.mp4"), [CLIP, SYNC], duration_s=3.0)
    assert frames["clip"].shape == (24, 3, 384, 384)
    assert frames["sync"].shape == (75, 3, 224, 224)
    assert frames["sync"].float().std() > 20


def test_frames_come_in_the_order_of_the_rule(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", duration_s=2.0)
    frames = read_frames(str(path), [SMALL], duration_s=2.0)["small"]
    expected = pick_frame_indices([index / 25 for index in range(50)], 25, 2.0)
    levels = frames[:, :, 16:, 16:].float().mean(dim=(1, 2, 3))
    assert frames.shape == (50, 3, 32, 32)
    assert levels.tolist() == pytest.approx([20.0 + index for index in [*expected, 49][:50]], abs=2.0)


def test_at_a_low_frame_rate_each_picture_stays_until_the_next_one(tmp_path, write_video):
    path = write_video(tmp_path / "slow.mp4", duration_s=2.0, rate=5)
    levels = read_frames(str(path), [SMALL], duration_s=2.0)["small"][:, :, 16:, 16:].float().mean(dim=(1, 2, 3))
    picked = pick_frame_indices([index / 5 for index in range(10)], 25, 2.0)
    assert picked[:11] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert levels.tolist() == pytest.approx([20.0 + index // 5 for index in range(50)], abs=1.5)


def test_a_start_inside_the_video_is_found(tmp_path, write_video):
    path = write_video(tmp_path / "long.mp4", duration_s=4.0)
    levels = (
        read_frames(str(path), [SMALL], start_s=1.6, duration_s=2.0)["small"][:, :, 16:, 16:]
        .float()
        .mean(dim=(1, 2, 3))
    )
    assert float(levels[0]) == pytest.approx(20 + 40, abs=2.0)
    assert float(levels[-1]) == pytest.approx(20 + 89, abs=2.0)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("b.webm", "libvpx-vp9"), ("c.avi", "mpeg4"), ("d.ts", "libx264"), ("e.mov", "libx264")],
)
def test_other_containers_are_read(tmp_path, write_video, name, codec):
    path = write_video(tmp_path / name, codec=codec)
    frames = read_frames(str(path), [SMALL], duration_s=2.0)["small"]
    assert frames.shape == (50, 3, 32, 32)
    assert float(frames[0, :, 16:, 16:].float().mean()) == pytest.approx(20.0, abs=4.0)
    assert float(frames[-1, :, 16:, 16:].float().mean()) == pytest.approx(69.0, abs=4.0)


def test_a_phone_video_is_turned_upright(tmp_path, write_video, turn_video):
    flat = write_video(tmp_path / "flat.mp4", width=96, height=64)
    upright = turn_video(flat, tmp_path / "upright.mp4")
    facts = probe(str(upright))
    assert (facts.width, facts.height) == (64, 96)
    stream = FrameStream("shown", 25.0, 96, 64, "stretch")
    corners = read_frames(str(upright), [stream], duration_s=1.0)["shown"][0].float().mean(dim=0)
    # The white square of the top left corner is in the top right one after a clockwise turn.
    assert corners[:12, -8:].mean() > 200
    assert corners[:12, :8].mean() < 60
    assert corners[-12:, -8:].mean() < 60


def test_a_non_ascii_path_is_read(tmp_path, write_video):
    path = write_video(tmp_path / "Vidéos été 日本" / "Hündchen 🐶.mp4")
    assert read_frames(str(path), [SMALL], duration_s=2.0)["small"].shape == (50, 3, 32, 32)


def test_a_video_of_4_s_is_too_short_for_8_s(tmp_path, write_video):
    path = write_video(tmp_path / "short.mp4", duration_s=4.0)
    with pytest.raises(
        VideoTooShort, match=r"8 s from second 0 on are needed, the picture ends after 4\.00 s.*short\.mp4"
    ):
        read_frames(str(path), [SMALL], duration_s=8.0)


def test_a_start_behind_the_end_is_too_short(tmp_path, write_video):
    path = write_video(tmp_path / "short.mp4", duration_s=2.0)
    with pytest.raises(VideoTooShort, match="second 5 on"):
        read_frames(str(path), [SMALL], start_s=5.0, duration_s=2.0)


def test_a_video_that_ends_one_frame_early_shows_its_last_frame_longer(tmp_path, write_video):
    path = write_video(tmp_path / "almost.mp4", duration_s=1.96)
    frames = read_frames(str(path), [SMALL], duration_s=2.0)["small"]
    assert frames.shape[0] == 50
    assert torch.equal(frames[-1], frames[-2])
    shorter = write_video(tmp_path / "shorter.mp4", duration_s=1.88)
    with pytest.raises(VideoTooShort):
        read_frames(str(shorter), [SMALL], duration_s=2.0)


def test_a_truncated_mp4_is_unreadable(tmp_path, write_video):
    whole = write_video(tmp_path / "whole.mp4", duration_s=4.0).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoUnreadable, match=r"cut\.mp4.*again"):
        read_frames(str(tmp_path / "cut.mp4"), [SMALL], duration_s=2.0)


def test_a_truncated_mp4_with_its_index_in_front_is_called_cut_off(tmp_path, write_video):
    whole = write_video(tmp_path / "whole.mp4", duration_s=4.0, options={"movflags": "+faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 5])
    with pytest.raises(VideoUnreadable):
        read_frames(str(tmp_path / "cut.mp4"), [SMALL], duration_s=4.0)


def test_a_text_file_is_unreadable(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("This is not a video.\n" * 100)
    with pytest.raises(VideoUnreadable, match=r"no readable video.*notes\.mp4"):
        probe(str(path))


def test_an_empty_file_is_unreadable(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoUnreadable):
        probe(str(tmp_path / "empty.mp4"))


def test_a_video_without_frames_is_unreadable(tmp_path, empty_video):
    path = empty_video(tmp_path / "none.mp4")
    with pytest.raises(VideoUnreadable):
        probe(str(path))
    with pytest.raises(VideoUnreadable):
        read_frames(str(path), [SMALL], duration_s=2.0)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(VideoMissing, match="nowhere"):
        probe(str(tmp_path / "nowhere.mp4"))


def test_a_playlist_in_disguise_cannot_open_other_files(tmp_path, write_video):
    secret = write_video(tmp_path / "secret.mp4")
    (tmp_path / "innocent.mp4").write_text(f"ffconcat version 1.0\nfile '{secret.name}'\n")
    with pytest.raises(VideoUnreadable):
        read_frames(str(tmp_path / "innocent.mp4"), [SMALL], duration_s=2.0)
