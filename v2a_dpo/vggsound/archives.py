"""Clips out of tar archives: one pass over an archive lists its clips and writes out those that are wanted.

The passes are remembered beside the clips, so that a stopped run goes on with the next archive, and a finished one reads
no archive again. Nothing of a member's path is used but the clip id in its name.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from v2a_dpo.artifacts.location import file_sizes, is_remote, join, list_names, open_input, read_bytes, write_atomically
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.vggsound.files import clip_id_of

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
#: A remote archive is read in pieces of this many bytes, a request each.
_REMOTE_BLOCK = 16 * 2**20


class ArchiveIndex(BaseModel):
    """What an archive holds: each clip's file name, for an archive of `num_bytes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_bytes: int
    clips: dict[str, str]


def read_archive(
    archive: str,
    *,
    num_bytes: int,
    output: str,
    wanted: Collection[str],
    present: set[str],
    progress: Progress = silent,
) -> ArchiveIndex:
    """The index of the tar `archive` (path or URI); its `wanted` clips are written into the folder `output` on the way.

    `present` names the files that are in `output` already and grows by those written; the archive is not opened when its
    index is known and nothing is left to write. Raises UserError for a damaged archive, and for one with a member that
    points out of its folder.
    """
    index_file = join(output, ".archives", PurePosixPath(archive).name + ".json")
    known = _known_index(output, index_file, num_bytes)
    if known is not None and not any(name not in present for clip_id, name in known.clips.items() if clip_id in wanted):
        return known
    clips: dict[str, str] = {}
    title = f"Reading {PurePosixPath(archive).name} (MiB)"
    with _opened(archive) as (tar, position):
        for member in _members(tar, archive):
            clip_id = clip_id_of(member.name) if member.isreg() else None
            if clip_id is None or clip_id in clips:
                continue
            clips[clip_id] = name = clip_id + PurePosixPath(member.name).suffix.lower()
            if clip_id in wanted and name not in present:
                content = tar.extractfile(member)
                if content is None:
                    raise AssertionError("a regular file has content")
                write_atomically(join(output, name), content.read())
                present.add(name)
            progress(title, min(position() // 2**20, num_bytes // 2**20), max(1, num_bytes // 2**20))
    progress(title, max(1, num_bytes // 2**20), max(1, num_bytes // 2**20))
    index = ArchiveIndex(num_bytes=num_bytes, clips=clips)
    write_atomically(index_file, (index.model_dump_json() + "\n").encode())
    return index


def archive_sizes(folder: str) -> dict[str, int]:
    """The tar archives directly inside `folder` by path, with their sizes in bytes."""
    return {join(folder, name): size for name, size in file_sizes(folder).items() if name.endswith(ARCHIVE_SUFFIXES)}


def _known_index(output: str, index_file: str, num_bytes: int) -> ArchiveIndex | None:
    """The index of an earlier pass, if the archive has the size that it had then."""
    if PurePosixPath(index_file).name not in list_names(join(output, ".archives")):
        return None
    try:
        index = ArchiveIndex.model_validate(json.loads(read_bytes(index_file)))
    except (ValueError, ValidationError):
        return None
    return index if index.num_bytes == num_bytes else None


@contextmanager
def _opened(archive: str) -> Iterator[tuple[tarfile.TarFile, Callable[[], int]]]:
    """The archive, and how far it was read in bytes. A remote one is streamed; in a local one unwanted clips are skipped."""
    with open_input(archive) as file:
        try:
            with _tar(file, streamed=is_remote(archive)) as tar:
                yield tar, file.tell
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"This archive is damaged: {error or type(error).__name__}.",
                where=archive,
                remedy="Download it again.",
            ) from error


def _tar(file: BinaryIO, *, streamed: bool) -> tarfile.TarFile:
    if streamed:
        return tarfile.open(fileobj=file, mode="r|*", bufsize=_REMOTE_BLOCK)
    return tarfile.open(fileobj=file, mode="r:*")


def _members(tar: tarfile.TarFile, archive: str) -> Iterator[tarfile.TarInfo]:
    """The members in order; raises ReadError where a cut one stops, and UserError at one that the standard `data` filter would not unpack."""
    for member in tar:
        try:
            tarfile.data_filter(member, "/archive")
        except tarfile.FilterError as error:
            raise UserError(
                f"The member {member.name!r} points out of the archive: {error}.",
                where=archive,
                remedy="Do not use this archive: it was not made by the publishers of VGGSound.",
            ) from error
        yield member
    # An archive ends with two empty blocks; without this check one that was cut between members would pass for whole.
    if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it stops before its end")
