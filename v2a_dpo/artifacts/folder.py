"""Model folders: several small files that appear together or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from v2a_dpo.artifacts.location import filesystem, is_remote, join, list_names, read_bytes, write_atomically
from v2a_dpo.errors import UserError

#: Written last to a remote folder: a reader that finds it finds the rest.
_LAST = "config.json"


@contextmanager
def new_folder(uri: str | Path) -> Iterator[Path]:
    """A local folder to fill, which takes the place of `uri` when the block ends without an error.

    A local `uri` appears by one rename: a reader finds the old folder, the new one or, between the two renames, none,
    never a part. A remote one receives its files with `config.json` last. Raises UserError when it cannot be written.
    """
    try:
        if is_remote(uri):
            with TemporaryDirectory() as temporary:
                yield Path(temporary)
                _upload(Path(temporary), uri)
        else:
            with _renamed(Path(str(uri).removeprefix("file://"))) as partial:
                yield partial
    except OSError as error:
        raise UserError(
            f"Cannot write this folder: {error}", where=str(uri), remedy="Free some space or check the rights."
        ) from error


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_partial_folders(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            _flush(file)
        if target.exists():
            # Named as a partial too, so that a kill right here leaves nothing that the next writer does not clear away.
            target.rename(target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial"))
        partial.rename(target)
    finally:
        remove_partial_folders(target)


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial_folders(target: Path) -> None:
    """Deletes what killed writers of the local folder `target` left beside it."""
    for partial in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _upload(folder: Path, uri: str | Path) -> None:
    fs, path = filesystem(uri)
    for file in sorted(folder.iterdir(), key=lambda item: (item.name == _LAST, item.name)):
        fs.put_file(str(file), join(path, file.name))


@contextmanager
def local_copy(uri: str | Path) -> Iterator[Path]:
    """The files directly inside the folder `uri` in a local folder: the folder itself, or a download while the block runs."""
    if not is_remote(uri):
        yield Path(str(uri).removeprefix("file://"))
        return
    with TemporaryDirectory() as temporary:
        for name in list_names(uri):
            (Path(temporary) / name).write_bytes(read_bytes(join(uri, name)))
        yield Path(temporary)


_MADE_WITH = ".made-with"


def claim_folder(folder: Path, made_with: str) -> None:
    """Makes the local `folder` ready for files made with the parameters digested in `made_with`.

    What other parameters made is cleared away; what the same ones made stays, so that a killed stage goes on.
    """
    marker = folder / _MADE_WITH
    if marker.is_file() and marker.read_text() == made_with:
        return
    if folder.is_dir():
        for item in folder.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    write_atomically(str(marker), made_with.encode())
