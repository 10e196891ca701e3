"""A store of videos behind a URI that can be made to fail while it is read, as a busy S3 service does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem


class _Store(MemoryFileSystem):
    """Files in memory; the reads of the names in `failing_after` end with a lost connection after so many bytes."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing_after: ClassVar[dict[str, int]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("flaky://", "memory://"))

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        # The file system gives the stored file itself to everybody who opens it.
        file, limit = copy(super()._open(path, *args, **options)), self.failing_after.get(path.rsplit("/", 1)[-1])
        if limit is None:
            return file
        read = file.read

        def failing_read(*amount: int) -> bytes:
            content = read(*amount)
            if file.tell() > limit:
                raise ConnectionResetError("connection reset by peer")
            return content

        file.read = failing_read
        return file


class FlakyStore:
    uri = "flaky://videos"

    def put(self, name: str, content: bytes) -> None:
        fsspec.filesystem("flaky").pipe(f"{self.uri}/{name}", content)

    @contextmanager
    def failing(self, name: str, *, after: int) -> Iterator[None]:
        """Reading the file `name` fails inside, each time it is opened, once more than `after` bytes were read."""
        _Store.failing_after[name] = after
        try:
            yield
        finally:
            _Store.failing_after.clear()


@pytest.fixture
def store() -> Iterator[FlakyStore]:
    fsspec.register_implementation("flaky", _Store, clobber=True)
    yield FlakyStore()
    _Store.store.clear()
