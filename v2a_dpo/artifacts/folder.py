"""Model folders: several small files that appear together or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from v2a_dpo.artifacts.code import NO_CODE, Code, warn_of_other_code
from v2a_dpo.artifacts.location import (
    exists,
    is_remote,
    join,
    list_names,
    local_path,
    read_bytes,
    remove,
    reported,
    tree_names,
    write_atomically,
)
from v2a_dpo.artifacts.transfer import fetch_file, send_file
from v2a_dpo.errors import UserError

#: Written last to a remote folder: where it exists, the rest does.
_LAST = "config.json"
#: Suffixes of the files in a folder that may be replaced.
_SUFFIXES = {".json", ".safetensors", ".npy", ".sha256"}


@contextmanager
def new_folder(uri: str | Path) -> Iterator[Path]:
    """A local folder to fill, which takes the place of `uri` when the block ends without an error.

    A local `uri` appears by one rename: a reader finds the old folder, the new one or, between the two renames, none,
    never a part. A remote one receives its files with `config.json` last. Raises UserError when it cannot be written,
    or when `uri` holds anything but JSON, array and checksum files: other files are never deleted.
    """
    with reported("written", uri):
        if is_remote(uri):
            with TemporaryDirectory() as temporary:
                folder = Path(temporary)
                yield folder
                for file in sorted(folder.iterdir(), key=lambda item: (item.name == _LAST, item.name)):
                    send_file(file, join(uri, file.name))
        else:
            target = local_path(uri)
            _check_replaceable(target)
            with _renamed(target) as partial:
                yield partial


def _check_replaceable(target: Path) -> None:
    """Raises UserError for a file or folder that no `new_folder` wrote: the user may have mistyped the path."""
    if not target.exists():
        return
    items = list(target.iterdir()) if target.is_dir() else [target]
    foreign = [item for item in items if item == target or not item.is_file() or item.suffix not in _SUFFIXES]
    if foreign:
        what = f"This is not a folder that may be replaced: it holds {min(foreign).name}."
        raise UserError(what, where=str(target), remedy="Choose another output folder.")


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_partial_folders(target)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        yield partial
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if target.exists():
            # Named as a partial too, so that the next writer clears it away after a kill at this point.
            target.rename(target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial"))
        partial.rename(target)
    finally:
        remove_partial_folders(target)


def remove_partial_folders(target: Path) -> None:
    """Deletes the partial folders of killed writers beside the local folder `target`."""
    for partial in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def local_copy(uri: str | Path) -> Iterator[Path]:
    """A local folder with the files directly inside `uri`: itself, or a download that lasts as long as the block."""
    if not is_remote(uri):
        yield local_path(uri)
        return
    with TemporaryDirectory() as temporary:
        for name in list_names(uri):
            fetch_file(join(uri, name), Path(temporary) / name)
        yield Path(temporary)


_MADE_WITH = ".made-with"


@contextmanager
def working_folder(uri: str | Path, made_with: str, *, code: Code = NO_CODE, keep: bool = False) -> Iterator[Path]:
    """The local folder that a stage fills with many files, claimed by `claim_folder`; a remote `uri` is filled from it.

    For a remote `uri` it is a scratch copy: earlier files of the same parameters and code are downloaded, new ones are
    uploaded when the block ends without an error, JSON files last, because they mark the files beside them as whole.
    """
    if not is_remote(uri):
        folder = local_path(uri)
        claim_folder(folder, made_with, code=code, keep=keep)
        yield folder
        return
    names = tree_names(uri)
    marker = join(uri, _MADE_WITH)
    earlier = read_bytes(marker) if exists(marker) else None
    is_reused = _is_reusable(earlier, names, made_with, code, keep=keep, where=str(uri))
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kept = names if is_reused else []
        for name in kept:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            fetch_file(join(uri, name), folder / name)
        before = {name: (folder / name).stat().st_mtime_ns for name in kept}
        yield folder
        if not is_reused:
            write_atomically(marker, _marker(made_with, code))
        for name in set(names) - set(kept):
            remove(join(uri, name))
        outputs = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        for name in sorted(outputs, key=lambda item: (item.endswith(".json"), item)):
            if before.get(name) != (folder / name).stat().st_mtime_ns:
                send_file(folder / name, join(uri, name))


def claim_folder(folder: Path, made_with: str, *, code: Code = NO_CODE, keep: bool = False) -> None:
    """Prepares the local `folder` for files made by `code` with the parameters digested in `made_with`.

    Files of other parameters or other code are deleted (with `keep` not for the code); those of the same ones stay, so
    that a killed stage goes on. Raises UserError for a folder with files that no stage has claimed: other
    files are never deleted.
    """
    marker = folder / _MADE_WITH
    items = [item for item in folder.iterdir() if item != marker] if folder.is_dir() else []
    earlier = marker.read_bytes() if marker.is_file() else None
    if _is_reusable(earlier, [item.name for item in items], made_with, code, keep=keep, where=str(folder)):
        return
    for item in items:  # the marker stays until a new one takes its place: a kill in between leaves a claimed folder
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    write_atomically(marker, _marker(made_with, code))


def _marker(made_with: str, code: Code) -> bytes:
    return json.dumps({"made_with": made_with, "code": dict(code.functions)}, indent=1, allow_nan=False).encode()


def _is_reusable(
    marker: bytes | None, names: Sequence[str], made_with: str, code: Code, *, keep: bool, where: str
) -> bool:
    """Whether the files `names` beside this marker may stay; warns about those that only the code makes stale.

    Raises UserError when there are files without a marker.
    """
    if marker is None:
        if names:
            what = f"This folder is not empty and no stage made it: it holds {min(names)}."
            remedy = "Choose another output folder, or delete this one if it is not needed."
            raise UserError(what, where=where, remedy=remedy)
        return False
    earlier = json.loads(marker)
    if earlier["made_with"] != made_with:
        return False
    changed = code.changed(earlier["code"])
    if changed and not keep:
        warn_of_other_code(where, "its files", changed)
    return keep or not changed
