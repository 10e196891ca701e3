"""Clips out of tar archives: one pass over an archive lists its clips and writes the selected ones.

An index of each archive is kept beside the clips, so that a stopped run goes on with the next archive, and a finished
one reads no archive again. A damaged archive gives the clips that can be read, and is read again by the next run: it
may be a better copy. Nothing of a member's path is used but the clip id in its name.
"""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from v2a_dpo.artifacts.location import file_sizes, is_remote, join, list_names, open_input, read_bytes, write_atomically
from v2a_dpo.data.vggsound.files import clip_id_of
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
#: A remote archive is read in pieces of this many bytes, a request each.
_REMOTE_BLOCK = 16 * 2**20


class ArchiveIndex(BaseModel):
    """The readable clips of an archive of `num_bytes` by file name, and its damage; empty for none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_bytes: int
    clips: dict[str, str]
    damage: str = ""


@dataclass
class _Blocks:
    """The blocks between an archive's members."""

    unreadable: int = 0
    empty_in_a_row: int = 0

    def note(self, *, is_empty: bool) -> None:
        """Counts a block that is no header: two empty ones end an archive, and anything may follow them."""
        if is_empty:
            self.empty_in_a_row += 1
        elif self.empty_in_a_row < 2:
            self.unreadable += 1

    @property
    def damage(self) -> str:
        """The damage of an archive that was read to its end; empty for none."""
        if self.unreadable:
            return f"{self.unreadable:,} blocks between its members cannot be read"
        return "" if self.empty_in_a_row else "it stops before its end"


def read_archive(
    archive: str,
    *,
    num_bytes: int,
    output: str,
    wanted: Collection[str],
    present: set[str],
    trust_damaged: bool,
    progress: Progress = silent,
) -> ArchiveIndex:
    """The index of the tar `archive` (path or URI); its `wanted` clips are written into the folder `output` on the way.

    `present` names the files that are in `output` already and grows by those written; the archive is not opened when
    its index is known and nothing is left to write. The index of a damaged one counts as known only with
    `trust_damaged`; else its clips are written anew. Raises UserError for an archive with a member that points out of
    its folder.
    """
    index_file = join(output, ".archives", PurePosixPath(archive).name + ".json")
    known = _known_index(output, index_file, num_bytes)
    if known is not None and known.damage and not trust_damaged:
        present.difference_update(known.clips.values())
        known = None
    if known is not None and not any(name not in present for clip_id, name in known.clips.items() if clip_id in wanted):
        return known
    clips: dict[str, str] = {}
    skipped = ""  # the content of a skipped member may be cut
    blocks = _Blocks()
    title = f"Reading {PurePosixPath(archive).name} (MiB)"
    with open_input(archive) as file:
        try:
            with _tar(file, blocks, streamed=is_remote(archive)) as tar:
                for member in _members(tar, archive):
                    skipped = ""
                    clip_id = clip_id_of(member.name) if member.isreg() else None
                    if clip_id is None or clip_id in clips:
                        continue
                    name = clip_id + PurePosixPath(member.name).suffix.lower()
                    if clip_id in wanted and name not in present:
                        write_atomically(join(output, name), _content(tar, member))
                        present.add(name)
                    else:
                        skipped = clip_id
                    clips[clip_id] = name
                    progress(title, min(file.tell() // 2**20, num_bytes // 2**20), max(1, num_bytes // 2**20))
            damage = blocks.damage
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            damage = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
            clips.pop(skipped, None)
    progress(title, max(1, num_bytes // 2**20), max(1, num_bytes // 2**20))
    index = ArchiveIndex(num_bytes=num_bytes, clips=clips, damage=damage)
    write_atomically(index_file, (index.model_dump_json() + "\n").encode())
    return index


def archive_sizes(folder: str) -> dict[str, int]:
    """The tar archives directly inside `folder` by path, with their sizes in bytes; hidden files are left out."""
    return {
        join(folder, name): size
        for name, size in file_sizes(folder).items()
        if name.endswith(ARCHIVE_SUFFIXES) and not name.startswith(".")
    }


def _known_index(output: str, index_file: str, num_bytes: int) -> ArchiveIndex | None:
    """The index of an earlier pass, if the archive has the size that it had then."""
    if PurePosixPath(index_file).name not in list_names(join(output, ".archives")):
        return None
    try:
        index = ArchiveIndex.model_validate(json.loads(read_bytes(index_file)))
    except (ValueError, ValidationError):
        return None
    return index if index.num_bytes == num_bytes else None


def _tar(file: BinaryIO, blocks: _Blocks, *, streamed: bool) -> tarfile.TarFile:
    """The archive; a remote one is streamed, in a local one unwanted clips are skipped.

    Blocks that are no header where one is due are passed over, up to the next header, and noted in `blocks`.
    """

    class Member(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            try:
                member = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError:
                if len(buf) == tarfile.BLOCKSIZE:
                    blocks.note(is_empty=not any(buf))
                raise
            blocks.empty_in_a_row = 0
            return member

    if streamed:
        return tarfile.open(fileobj=file, mode="r|*", bufsize=_REMOTE_BLOCK, tarinfo=Member, ignore_zeros=True)
    return tarfile.open(fileobj=file, mode="r:*", tarinfo=Member, ignore_zeros=True)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a regular file; raises ReadError when some are missing."""
    content = tar.extractfile(member)
    if content is None:
        raise AssertionError("a regular file has content")
    data = content.read()
    if len(data) < member.size:
        raise tarfile.ReadError("it stops before its end")
    return data


def _members(tar: tarfile.TarFile, archive: str) -> Iterator[tarfile.TarInfo]:
    """The members in order; raises UserError at one that the `data` filter would not unpack, and ReadError at a cut."""
    while True:
        try:
            member = tar.next()
        except tarfile.ReadError:
            if tar.fileobj.tell() <= tar.offset:
                raise
            tar.offset = tar.fileobj.tell()  # a member's second header was bad: look for the next one behind it
            continue
        if member is None:
            return
        try:
            tarfile.data_filter(member, "/archive")
        except tarfile.FilterError as error:
            raise UserError(
                f"The member {member.name!r} points out of the archive: {error}.",
                where=archive,
                remedy="Do not use this archive: it was not made by the publishers of VGGSound.",
            ) from error
        yield member
