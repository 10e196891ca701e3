"""Real servers as processes: MLflow's own, and the one behind our limits; real videos over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest

from tests.serving.conftest import Served, free_port, process, wait_for

pytestmark = pytest.mark.slow


class Server:
    """A scoring server's address and log."""

    def __init__(self, port: int, log: Path) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}", log

    def ask(self, body: object, *, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
        """The status and the JSON answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/invocations", data, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=240) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def is_alive(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/ping", timeout=60) as response:
            return bool(response.status == 200)


@pytest.fixture(scope="module")
def servers(served: Served, packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """MLflow's server of the packaged model, and ours of the plain folder; they start side by side."""
    folder = tmp_path_factory.mktemp("servers")
    ports = {"mlflow": free_port(), "limited": free_port()}
    commands = {
        "mlflow": [
            "mlflow",
            "models",
            "serve",
            "--model-uri",
            str(packaged),
            "--env-manager",
            "local",
            "--timeout",
            "600",
        ],
        "limited": ["v2a_dpo.cli", "serve", str(served.aligned), "--params", str(served.params_file)],
    }
    with ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            log = folder / f"{name}.log"
            running = stack.enter_context(
                process("-m", *command, "--host", "127.0.0.1", "--port", str(ports[name]), cwd=folder, log=log)
            )
            started[name] = (running, Server(ports[name], log))
        for running, server in started.values():
            wait_for(f"{server.url}/ping", running, server.log)
        yield {name: server for name, (_, server) in started.items()}


@pytest.fixture(params=["mlflow", "limited"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


def row_of(content: bytes, **values: object) -> dict[str, object]:
    return {"video": base64.b64encode(content).decode(), **values}


def test_a_video_over_http_comes_back_as_an_mp4_with_sound(server: Server, served: Served) -> None:
    row = row_of(served.clip.read_bytes(), prompt="a bell", seconds=1.5, seed=7, guidance_scale=3.0)
    status, answer = server.ask({"dataframe_records": [row]})
    assert status == 200, answer
    (prediction,) = answer["predictions"]
    assert (prediction["sample_rate"], prediction["seed"]) == (16_000, 7)
    assert base64.b64decode(prediction["audio"]).startswith(b"fLaC")
    with av.open(BytesIO(base64.b64decode(prediction["video"]))) as video:
        assert len(video.streams.video) == 1
        samples = sum(frame.samples for frame in video.decode(audio=0))
    assert samples / 16_000 == pytest.approx(1.5, abs=0.15)


def test_a_data_url_and_a_row_without_a_seed_are_answered(server: Server, served: Served) -> None:
    row = row_of(served.clip.read_bytes(), seconds=1)
    status, answer = server.ask(
        {"dataframe_records": [{**row, "video": f"data:video/mp4;base64,{row['video']}"}, {**row, "seed": 3}]}
    )
    assert status == 200, answer
    assert [prediction["seed"] for prediction in answer["predictions"]] == [0, 3]


@pytest.mark.parametrize(
    ("row", "status", "words"),
    [
        (row_of(b"this is no video"), 400, "no readable video"),
        (row_of(bytes(300_000)), 413, "too large"),
        ({"video": "!"}, 400, "not base64"),
        ({"video": "data:video/mp4;base64,!"}, 400, "not base64"),
        (row_of(b"v", promt="a bell"), 400, "no column `promt`; the columns are video, video_path, prompt"),
        ({"video": None}, 400, "video"),
        ({"prompt": "a bell"}, 400, "exactly one of `video`"),
        ({"video_path": "/etc/passwd"}, 403, "reads no paths"),
        (row_of(b"v", seconds=1e9), 400, "`seconds` must lie between 1 and 4"),
        (row_of(b"v", seconds="long"), 400, "`seconds` must be a number"),
        (row_of(b"v", seed=[1]), 400, "`seed` must be a number"),
    ],
)
def test_a_bad_request_is_a_4xx_that_says_why(server: Server, row: dict[str, object], status: int, words: str) -> None:
    found, answer = server.ask({"dataframe_records": [row]})
    assert found == status
    assert words in answer["message"]
    assert "stack_trace" not in answer
    assert len(json.dumps(answer)) < 1000
    assert server.is_alive()


def test_a_damaged_video_and_too_many_are_refused(server: Server, served: Served) -> None:
    clip = served.clip.read_bytes()
    assert server.ask({"dataframe_records": [row_of(clip[: len(clip) // 2])]})[0] == 400
    status, answer = server.ask({"dataframe_records": [row_of(clip)] * 3})
    assert (status, answer["message"]) == (413, "3 videos are too many: at most 2 are accepted at once.")


def test_rows_in_another_form_are_refused_in_our_words(server: Server) -> None:
    status, answer = server.ask({"instances": [row_of(b"v")]})
    assert (status, "dataframe_records" in answer["message"]) == (400, True)


def test_parameters_beside_the_rows_are_not_left_out_in_silence(servers: dict[str, Server]) -> None:
    status, answer = servers["limited"].ask({"dataframe_records": [row_of(b"v")], "params": {"seed": 3}})
    assert (status, "`params` are not accepted" in answer["message"]) == (400, True)


def test_what_mlflow_would_read_whole_or_answer_with_a_stack_trace_is_refused(servers: dict[str, Server]) -> None:
    server = servers["limited"]
    assert server.ask(b'video\n"', content_type="text/csv")[0] == 415
    assert server.ask(b"x" * 2_000_000)[0] == 413
    status, answer = server.ask(b"not json")
    assert (status, list(answer)) == (400, ["message"])
    assert server.is_alive()


def test_no_bad_request_left_a_traceback_in_the_log(servers: dict[str, Server]) -> None:
    for server in servers.values():
        assert "Traceback" not in server.log.read_text()
