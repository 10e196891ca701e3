from __future__ import annotations

import socket

import pytest
import torch

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import read_audio
from v2a_dpo.media.errors import MediaError, VideoMissing, VideoUnreadable
from v2a_dpo.media.mp4 import mux
from v2a_dpo.media.video import FrameStream, probe, read_frames

SMALL = FrameStream("small", 25.0, 32, 32, "stretch")


def test_a_video_on_s3_is_read_as_locally(bucket, real_footage):
    local, remote = str(real_footage / "bigbuckbunny.mp4"), f"{bucket}/videos/Büchse.mp4"
    write_atomically(remote, (real_footage / "bigbuckbunny.mp4").read_bytes())
    assert probe(remote) == probe(local)
    here = read_frames(local, [SMALL], start_s=1.0, duration_s=2.0)["small"]
    assert torch.equal(read_frames(remote, [SMALL], start_s=1.0, duration_s=2.0)["small"], here)
    there = read_audio(remote, sample_rate=16_000, duration_s=2.0)
    assert torch.equal(there, read_audio(local, sample_rate=16_000, duration_s=2.0))


def test_muxed_videos_go_to_s3(bucket, real_footage):
    mux(str(real_footage / "bikes.mp4"), torch.zeros(16_000), 16_000, f"{bucket}/out.mp4")
    assert probe(f"{bucket}/out.mp4").has_audio


def test_missing_and_damaged_objects_are_told_apart(bucket):
    write_atomically(f"{bucket}/text.mp4", b"no video")
    with pytest.raises(VideoMissing):
        probe(f"{bucket}/absent.mp4")
    with pytest.raises(VideoUnreadable):
        probe(f"{bucket}/text.mp4")


@pytest.mark.slow
@pytest.mark.usefixtures("s3_environment")
def test_a_service_that_is_away_is_no_fault_of_the_clip(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be read") as caught:
            probe("s3://bucket/clip.mp4")
    assert not isinstance(caught.value, MediaError)
