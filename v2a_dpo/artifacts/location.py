"""Files by path or URI: the same few operations for a local folder and for S3."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
from fsspec.spec import AbstractFileSystem

from v2a_dpo.errors import UserError


def is_remote(uri: str | Path) -> bool:
    """Whether `uri` names something that is not a local path."""
    return "://" in str(uri) and not str(uri).startswith("file://")


def join(uri: str | Path, *parts: str) -> str:
    """`uri` with `parts` appended."""
    return "/".join([str(uri).rstrip("/"), *parts])


def filesystem(uri: str | Path) -> tuple[AbstractFileSystem, str]:
    """The file system of `uri` and the path inside it.

    Raises UserError when the scheme needs a package that is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(str(uri), **_storage_options(str(uri)))
    except (ImportError, ValueError) as error:
        raise UserError(
            f"Cannot open this location: {error}",
            where=str(uri),
            remedy="Install the `data` extra for s3:// locations.",
        ) from error
    return fs, path


def _storage_options(uri: str) -> dict[str, object]:
    """S3 settings taken from the environment, so that any S3-compatible endpoint serves."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if uri.startswith("s3://") and endpoint:
        return {"client_kwargs": {"endpoint_url": endpoint}}
    return {}


def exists(uri: str | Path) -> bool:
    """Whether there is a file or folder at `uri`."""
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    return bool(fs.exists(path))


def read_bytes(uri: str | Path) -> bytes:
    """The content of the file at `uri`. Raises UserError when it is missing or cannot be reached."""
    fs, path = filesystem(uri)
    try:
        return fs.cat_file(path)
    except FileNotFoundError as error:
        raise UserError("This file does not exist.", where=str(uri), remedy="Check the path.") from error
    except OSError as error:
        raise UserError(
            f"This file cannot be read: {error}",
            where=str(uri),
            remedy="Check access rights and, for S3, the endpoint.",
        ) from error


def list_names(uri: str | Path) -> list[str]:
    """The sorted names of the files directly inside the folder `uri`; empty when it does not exist."""
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.exists(path):
        return []
    return sorted(entry["name"].rsplit("/", 1)[-1] for entry in fs.ls(path, detail=True) if entry["type"] == "file")


def write_atomically(uri: str | Path, content: bytes) -> None:
    """Puts `content` at `uri` in one step: a reader finds the old file, the new one, or none, never a part.

    Locally by a rename in the same folder after fsync; on S3 by one completed upload.
    Raises UserError when the disk is full or the location cannot be written; nothing is left behind then.
    """
    try:
        if is_remote(uri):
            fs, path = filesystem(uri)
            fs.pipe_file(path, content)
            return
        _write_local(Path(str(uri).removeprefix("file://")), content)
    except OSError as error:
        raise UserError(
            f"Cannot write: {error}", where=str(uri), remedy="Free some space or check the rights, then run again."
        ) from error


def _write_local(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove(uri: str | Path) -> None:
    """Deletes the file at `uri`; nothing happens when there is none."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm_file(path)


def remove_partials(folder: str | Path, name: str) -> None:
    """Deletes what killed writers of `name` left in a local `folder`."""
    if not is_remote(folder):
        for partial in Path(folder).glob(f".{name}.*.partial"):
            partial.unlink(missing_ok=True)
