"""A catalog of small files, and a real HTTP server that answers ranges and breaks off when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tests.weights.small_files import LARGE, SMALL, TRAINED, VOCODER, md5_of, state_of
from v2a_dpo.weights.catalog import FILES, OfficialFile
from v2a_dpo.weights.download import Patience
from v2a_dpo.weights.store import Store


@pytest.fixture
def catalog() -> Iterator[Callable[[OfficialFile], OfficialFile]]:
    """Holds the small files only; call it with a file to put that in, such as one with a published checksum."""
    official = dict(FILES)
    FILES.clear()
    FILES.update({file.name: file for file in (SMALL, LARGE, VOCODER, TRAINED)})

    def put(file: OfficialFile) -> OfficialFile:
        FILES[file.name] = file
        return file

    yield put
    FILES.clear()
    FILES.update(official)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    return Store.default()


@pytest.fixture
def published(tmp_path: Path, catalog: Callable[[OfficialFile], OfficialFile]) -> dict[str, Path]:
    """The two networks' files with their checksums in the catalog."""
    paths = {}
    for file in (SMALL, LARGE):
        paths[file.name] = tmp_path / "by-hand" / file.file_name
        paths[file.name].parent.mkdir(exist_ok=True)
        torch.save({**state_of(file.variant), "table": torch.zeros(2)}, paths[file.name])
        catalog(replace(file, md5=md5_of(paths[file.name]), size_mib=paths[file.name].stat().st_size / 2**20))
    return paths


@dataclass
class Server:
    """What the server serves, how it misbehaves, and what was asked of it."""

    port: int = 0
    content: bytes = b""
    tag: str | None = '"1"'
    ranges: bool = True
    #: Answers to give before the real one.
    errors: list[int] = field(default_factory=list)
    #: After how many bytes the next answers break off.
    breaks: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)

    def url(self, name: str = "file.pth") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.errors:
                self.send_error(server.errors.pop(0))
                return
            start = 0
            if asked and server.ranges and self.headers.get("If-Range") == server.tag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(server.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
            else:
                self.send_response(200)
            body = server.content[start:]
            self.send_header("Content-Length", str(len(body)))
            if server.tag is not None:
                self.send_header("ETag", server.tag)
            self.end_headers()
            self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet."""

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def patience() -> Patience:
    return Patience(timeout_s=5.0, attempts=3, pause_s=0.001)
