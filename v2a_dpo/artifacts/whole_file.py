"""A large file that is written piece by piece and appears whole or not at all, locally or on S3."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from v2a_dpo.artifacts.location import is_remote, new_local_file, reported
from v2a_dpo.artifacts.transfer import send_file


class HashedFile(io.RawIOBase):
    """A file opened for writing, with the SHA-256 of the bytes so far in `digest`."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file = file
        self._uri = uri
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, content: Any) -> int:
        """Writes all of `content`; raises UserError when the disk is full."""
        with reported("written", self._uri):
            self._file.write(content)
        self.digest.update(content)
        return len(content)

    def tell(self) -> int:
        """The number of bytes written."""
        return self._file.tell()


@contextmanager
def whole_file(uri: str) -> Iterator[HashedFile]:
    """A file to write to, which takes the place of `uri` when the block ends without an error; else nothing is left.

    For a remote `uri` it grows in the temporary folder and is uploaded. Raises UserError when the disk is full or the
    location cannot be written.
    """
    if not is_remote(uri):
        with new_local_file(uri) as opened:
            yield HashedFile(opened, uri)
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / uri.rsplit("/", 1)[-1]
        with file.open("wb") as opened:
            yield HashedFile(opened, uri)
        send_file(file, uri)
