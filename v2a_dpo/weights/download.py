"""Downloads that go on where they broke off, and appear under their name only when they are whole."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.location import reported
from v2a_dpo.errors import UserError

_MIB = 1 << 20
#: The errors of a broken connection: at its start, while it is read, and when it ends too early.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
#: Answers after which a later attempt may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _IncompleteError(ConnectionError):
    """The connection ended before the whole file had arrived."""


@dataclass(frozen=True)
class Patience:
    """Limits of a download: seconds of silence, attempts in a row without new bytes, the pause after the first."""

    timeout_s: float = 60.0
    attempts: int = 5
    pause_s: float = 2.0


def download(
    url: str,
    target: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    patience: Patience | None = None,
) -> None:
    """Fetches `url` into the file `target`, which appears whole or not at all.

    The part of an earlier, interrupted call is kept beside it (`<name>.partial`) and continued by a range request,
    unless the server's file has changed meanwhile. `progress` gets MiB done and in total. Raises UserError when the
    server refuses or does not answer, or when the disk is full.
    """
    if not url.startswith(("https://", "http://")):
        raise UserError("Only http and https addresses are fetched.", where=url, remedy="Check the address.")
    with reported("written", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _Partial(target)
        _fetch_all(url, partial, progress=progress, patience=patience or Patience())
        partial.finish()


def _fetch_all(url: str, partial: _Partial, *, progress: Callable[[int, int], None], patience: Patience) -> None:
    """Repeats the request for the missing part until the file is whole."""
    failures = 0
    while True:
        before = partial.size()
        try:
            _fetch_rest(url, partial, timeout_s=patience.timeout_s, progress=progress)
            return
        except urllib.error.HTTPError as error:
            if error.code not in _PASSING:
                raise _refused(url, f"The server answers {error.code} {error.reason}.") from error
            reason: Exception = error
        except _BROKEN as error:
            reason = error
        failures = 1 if partial.size() > before else failures + 1
        if failures >= patience.attempts:
            raise _refused(url, f"The connection failed {failures} times in a row: {reason}.") from reason
        time.sleep(patience.pause_s * 2 ** (failures - 1))


def _refused(url: str, what: str) -> UserError:
    remedy = (
        "The part so far is kept, and the same command continues it. Without a network, fetch the file by hand and "
        "run `v2a-dpo weights import FILE`."
    )
    return UserError(what, where=url, remedy=remedy)


class _Partial:
    """The part of a file so far, and the tag of the version that it belongs to."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(target.name + ".partial")
        self._tag_path = target.with_name(target.name + ".partial.tag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def tag(self) -> str | None:
        """The server's name for the version; None when there is nothing to continue."""
        return json.loads(self._tag_path.read_text()) if self.path.exists() and self._tag_path.exists() else None

    def start(self, tag: str | None) -> None:
        """Empties the part and records the version of the next bytes."""
        self.path.write_bytes(b"")
        if tag is None:
            self._tag_path.unlink(missing_ok=True)
        else:
            self._tag_path.write_text(json.dumps(tag, allow_nan=False))

    def finish(self) -> None:
        self.path.replace(self._target)
        self._tag_path.unlink(missing_ok=True)


def _fetch_rest(url: str, partial: _Partial, *, timeout_s: float, progress: Callable[[int, int], None]) -> None:
    """One request for the missing part. Raises urllib's errors, or _IncompleteError."""
    request = urllib.request.Request(url)  # noqa: S310
    tag = partial.tag()
    if tag is not None and partial.size():
        request.add_header("Range", f"bytes={partial.size()}-")
        # A changed file is sent whole instead of a range of it.
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing is left to send, or the part is longer than the file.
        if error.headers.get("Content-Range") == f"bytes */{partial.size()}":
            return
        partial.start(None)
        raise _IncompleteError("the existing part does not belong to the server's file") from error
    with response:
        _append(response, partial, progress=progress)


def _append(response: Any, partial: _Partial, *, progress: Callable[[int, int], None]) -> None:
    headers = response.headers
    if response.status == http.client.PARTIAL_CONTENT:
        if not headers.get("Content-Range", "").startswith(f"bytes {partial.size()}-"):
            partial.start(None)
            raise _IncompleteError("the server sent another range than the requested one")
    else:
        # Weak tags do not promise equal bytes, so they cannot name a version.
        etag = headers.get("ETag")
        partial.start(etag if etag and not etag.startswith("W/") else headers.get("Last-Modified"))
    stated = headers.get("Content-Length")
    done = partial.size()
    total = done + int(stated) if stated is not None else None
    with partial.path.open("ab") as file:
        while block := response.read(_MIB):
            file.write(block)
            done += len(block)
            if total is not None:
                progress(done // _MIB, -(-total // _MIB))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise _IncompleteError(f"{done} of {total} bytes arrived")
    progress(-(-done // _MIB), -(-done // _MIB))
