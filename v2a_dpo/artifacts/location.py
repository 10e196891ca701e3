"""Files by path or URI: the same few operations for a local folder and for S3."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from v2a_dpo.artifacts.causes import local_cause
from v2a_dpo.artifacts.s3 import CHECK_ADDRESS, S3_CONFIG, is_bucket_missing, s3_cause, s3_endpoint, s3_failures
from v2a_dpo.errors import UserError


def is_remote(uri: str | Path) -> bool:
    """Whether `uri` names something that is not a local path."""
    return "://" in str(uri) and not str(uri).startswith("file://")


def join(uri: str | Path, *parts: str) -> str:
    """`uri` with `parts` appended."""
    return "/".join([str(uri).rstrip("/"), *parts])


def local_path(uri: str | Path) -> Path:
    """The local path of `uri`, a path or a `file://` URI, taken literally: `~` and `::` have no meaning."""
    return Path(os.path.abspath(str(uri).removeprefix("file://")))


def filesystem(uri: str | Path) -> tuple[AbstractFileSystem, str]:
    """The file system of `uri` and the path inside it.

    Raises UserError when the scheme needs a package that is not installed.
    """
    if not is_remote(uri):
        return LocalFileSystem(), str(local_path(uri))
    options: dict[str, object] = {}
    if _is_s3(str(uri)):  # the endpoint is the environment's, so that any S3-compatible service will do
        options = {"config_kwargs": S3_CONFIG, "client_kwargs": {"endpoint_url": s3_endpoint()}}
    try:
        fs, path = fsspec.core.url_to_fs(str(uri), **options)
    except (ImportError, ValueError) as error:
        remedy = "Install the `data` extra for s3:// locations."
        raise UserError(f"Cannot open this location: {error}", where=str(uri), remedy=remedy) from error
    return fs, path


@contextmanager
def reported(action: str, uri: str | Path) -> Iterator[None]:
    """Turns the file system's errors in the block into UserErrors: a file at `uri` cannot be `action` ("read")."""
    failures: tuple[type[Exception], ...] = (OSError,)
    if _is_s3(str(uri)):
        filesystem(uri)  # raises UserError when the S3 packages are missing
        failures += s3_failures()
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, failures) and local_cause(error) is None:
            raise
        raise _refusal(error, action, str(uri)) from error


def _refusal(error: Exception, action: str, uri: str) -> UserError:
    """The UserError for an error of the file system, with its cause and the remedy."""
    cause = s3_cause(error, action, uri) if _is_s3(uri) else None
    cause = cause or local_cause(error)
    if cause is not None:
        return UserError(f"This cannot be {action}: {cause.what}.", where=uri, remedy=cause.remedy)
    if isinstance(error, FileNotFoundError) and action == "read":
        return UserError("This file does not exist.", where=uri, remedy="Check the path.")
    remedy = CHECK_ADDRESS if is_remote(uri) else "Check the path."
    return UserError(f"This cannot be {action}: {error}.", where=uri, remedy=remedy)


def _is_s3(uri: str) -> bool:
    return uri.startswith("s3://")


def require_bucket(error: FileNotFoundError, uri: str | Path) -> None:
    """Raises `error` again when `uri` has no bucket: a wrong address, neither an empty folder nor a missing file."""
    if _is_s3(str(uri)) and is_bucket_missing(error, str(uri)):
        raise error


def exists(uri: str | Path) -> bool:
    """Whether a file or folder exists at `uri`. Raises UserError when the location cannot be reached."""
    with reported("looked up", uri):
        fs, path = filesystem(uri)
        fs.invalidate_cache()
        try:
            fs.info(path)
        except FileNotFoundError as error:
            require_bucket(error, uri)
            return False
        return True


@contextmanager
def open_input(uri: str | Path) -> Iterator[BinaryIO]:
    """The file at `uri` opened for reading; raises UserError when it is missing or reading it fails within the block.

    On S3 only the requested ranges are fetched, without read-ahead: a reader of one column does not fetch the others.
    """
    with reported("read", uri):
        fs, path = filesystem(uri)
        with fs.open(path, "rb", cache_type="none") if is_remote(uri) else Path(path).open("rb") as file:
            yield file


def read_bytes(uri: str | Path) -> bytes:
    """The content of the file at `uri`. Raises UserError when it is missing or cannot be reached."""
    with reported("read", uri):
        fs, path = filesystem(uri)
        content: bytes = fs.cat_file(path)
        return content


def file_sizes(uri: str | Path) -> dict[str, int]:
    """Name -> size in bytes of the files directly inside the folder `uri`; empty when there is no such folder.

    One listing, whatever the number of files. Raises UserError when the location cannot be reached.
    """
    with reported("listed", uri):
        fs, path = filesystem(uri)
        try:
            if not is_remote(uri):
                with os.scandir(path) as entries:
                    sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            else:
                fs.invalidate_cache()
                listing = fs.ls(path, detail=True)
                files = [item for item in listing if item["type"] == "file" and not item["name"].endswith("/")]
                sizes = {item["name"].rsplit("/", 1)[-1]: item["size"] for item in files}
        except FileNotFoundError as error:
            require_bucket(error, uri)
            return {}
        return dict(sorted(sizes.items()))


def list_names(uri: str | Path) -> list[str]:
    """The sorted names of the files directly inside the folder `uri`; empty when it does not exist."""
    return list(file_sizes(uri))


def tree_names(uri: str | Path) -> list[str]:
    """The sorted names, relative to the folder `uri`, of the files in it and in its folders, hidden files left out."""
    with reported("listed", uri):
        fs, path = filesystem(uri)
        fs.invalidate_cache()
        files = [name for name in fs.find(path) if not name.endswith("/")]  # S3 consoles' empty objects for folders
        names = [name.removeprefix(path.rstrip("/")).lstrip("/") for name in files]
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def write_atomically(uri: str | Path, content: bytes) -> None:
    """Writes `content` to `uri` in one step: a reader gets the old file, the new one, or none, never a part.

    Locally by a rename in the same folder after fsync; on S3 by one completed upload.
    Raises UserError when the disk is full or the location cannot be written; nothing is left behind then.
    """
    with reported("written", uri):
        if is_remote(uri):
            fs, path = filesystem(uri)
            fs.pipe_file(path, content)
        else:
            with new_local_file(uri) as file:
                file.write(content)


@contextmanager
def new_local_file(uri: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of the local `uri` when the block ends without an error, after fsync.

    It grows beside its place, and nothing is left of it after an error. Raises UserError as `write_atomically` does.
    """
    target = local_path(uri)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with reported("written", uri):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = partial.open("wb")
        try:
            yield file
            with reported("written", uri):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # closing flushes once more what could not be written
                file.close()
        with reported("written", uri):
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def move(source: str, target: str) -> None:
    """Moves the file or folder `source` to `target` in the same store, where nothing of these names may be.

    Locally by a rename. On S3 object by object, copied there before it is deleted here: after a kill the same call
    goes on. Raises UserError when it cannot be done.
    """
    with reported("moved", source):
        if not is_remote(source):
            local_path(target).parent.mkdir(parents=True, exist_ok=True)
            local_path(source).rename(local_path(target))
            return
        (fs, path), (_, target_path) = filesystem(source), filesystem(target)
        fs.invalidate_cache()
        for name in fs.find(path):
            fs.cp_file(name, target_path + name.removeprefix(path))
            fs.rm_file(name)
        fs.invalidate_cache()


def remove(uri: str | Path) -> None:
    """Deletes the file at `uri`; nothing happens when there is none."""
    with reported("deleted", uri):
        fs, path = filesystem(uri)
        try:
            fs.rm_file(path)
        except FileNotFoundError as error:
            require_bucket(error, uri)
        fs.invalidate_cache()
