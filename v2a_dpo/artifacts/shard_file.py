"""One shard as a file: Parquet with its fingerprints, the checksum of its data and the failed clips in the footer."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from v2a_dpo.artifacts.code import Code
from v2a_dpo.artifacts.location import file_sizes, join, open_input, reported
from v2a_dpo.artifacts.manifest import QUARANTINE_FILE, ShardEntry
from v2a_dpo.artifacts.schema import QUARANTINE, TableSchema
from v2a_dpo.artifacts.transfer import whole_file

_META = b"v2a_dpo.shard"
_ROW_GROUP_ROWS = 8192
_ROW_GROUP_BYTES = 32 << 20
_FOOTER_GUESS = 1 << 16


@dataclass(frozen=True)
class QuarantinedRow:
    """A clip that failed: the class and the text of its error."""

    clip_id: str
    error: str
    message: str

    @staticmethod
    def of(clip_id: str, error: BaseException) -> QuarantinedRow:
        """The row for `error`, raised while working on `clip_id`."""
        message = str(error).encode(errors="replace").decode()  # a path in it may be no valid Unicode
        return QuarantinedRow(clip_id, type(error).__name__, message)


@dataclass(frozen=True)
class ShardContent:
    """The rows of a shard, one after the other or in a table, and the clips that failed.

    Failed clips may also be among the rows, in order. Rows of an iterator are written while they are made, so that
    memory holds few of them.
    """

    rows: pa.Table | Iterable[Mapping[str, Any] | QuarantinedRow]
    quarantined: Sequence[QuarantinedRow] = ()


@dataclass(frozen=True)
class StoredShard:
    """The content of a shard's footer, with the definitions of the code that made the shard."""

    entry: ShardEntry
    quarantined: list[dict[str, str]]
    code: Code


class _HashedFile(io.RawIOBase):
    """A file opened for writing, with the SHA-256 of the bytes so far in `digest`."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file = file
        self._uri = uri
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        with reported("written", self._uri):
            self._file.write(content)
        self.digest.update(content)
        return len(content)

    def tell(self) -> int:
        return self._file.tell()


def write_shard(
    folder: str, name: str, content: ShardContent, schema: TableSchema, *, fingerprint: str, code: Code
) -> StoredShard:
    """Writes the shard `name` and returns the content of its footer; the same content gives the same bytes.

    Rows are encoded in groups of at most 8,192 rows or about 32 MiB. Raises ValueError when they do not fit `schema`.
    """
    failed = [asdict(row) for row in content.quarantined]
    rows = 0
    with whole_file(join(folder, name)) as opened:
        file = _HashedFile(opened, join(folder, name))
        with pq.ParquetWriter(file, schema.arrow, compression="zstd", write_page_checksum=True) as writer:
            for part in _tables(content.rows, schema, failed):
                writer.write_table(part, row_group_size=_ROW_GROUP_ROWS)
                rows += part.num_rows
            sha256 = file.digest.hexdigest()
            meta = {"fingerprint": fingerprint, "code": code.functions, "quarantined": failed, "sha256": sha256}
            writer.add_key_value_metadata({_META: json.dumps(meta, sort_keys=True, allow_nan=False)})
        num_bytes = file.tell()
    return _stored(name, rows, num_bytes, meta, code)


def _tables(
    rows: pa.Table | Iterable[Mapping[str, Any] | QuarantinedRow], schema: TableSchema, failed: list[dict[str, str]]
) -> Iterator[pa.Table]:
    """The rows as tables of bounded size, at least one; failed clips among them go to `failed`."""
    if isinstance(rows, pa.Table):
        yield _checked(rows.select(schema.arrow.names).cast(schema.arrow), schema)
        return
    group: list[Mapping[str, Any]] = []
    size = written = 0
    for row in rows:
        if isinstance(row, QuarantinedRow):
            failed.append(asdict(row))
            continue
        group.append(row)
        size += _num_bytes(row)
        if size >= _ROW_GROUP_BYTES or len(group) == _ROW_GROUP_ROWS:
            yield _table(group, schema)
            written += len(group)
            group, size = [], 0
    if group or not written:
        yield _table(group, schema)


def _num_bytes(value: Any) -> int:
    """The approximate number of bytes in the large fields of a row."""
    if isinstance(value, Mapping):
        return sum(map(_num_bytes, value.values()))
    return len(value) if isinstance(value, bytes | str | list) else 0


def _table(rows: Sequence[Mapping[str, Any]], schema: TableSchema) -> pa.Table:
    names = schema.arrow.names
    for row in rows:
        if row.keys() != set(names):  # Arrow would drop unknown fields and fill missing ones with nulls
            raise ValueError(f"a row of {schema.name} has the fields {sorted(row)}, not {sorted(names)}")
    return _checked(pa.Table.from_pylist(list(rows), schema=schema.arrow), schema)


def _checked(table: pa.Table, schema: TableSchema) -> pa.Table:
    for item in schema.arrow:
        if not item.nullable and table.column(item.name).null_count:
            raise ValueError(f"the column {item.name} of {schema.name} has nulls")
    return table


def stored_shard(folder: str, name: str, num_bytes: int) -> StoredShard | None:
    """The content of the footer of the shard `name`; None when the file is not a whole shard."""
    with open_input(join(folder, name)) as file:
        footer = _footer(file, num_bytes)
    try:
        parsed = pq.read_metadata(io.BytesIO(footer))
    except (pa.ArrowException, OSError):
        return None
    meta = (parsed.metadata or {}).get(_META)
    if meta is None:
        return None
    content = json.loads(meta)
    return _stored(name, parsed.num_rows, num_bytes, content, Code(content["code"]))


def _stored(name: str, rows: int, num_bytes: int, meta: Mapping[str, Any], code: Code) -> StoredShard:
    sha256, fingerprint = meta["sha256"], meta["fingerprint"]
    entry = ShardEntry(
        name=name, rows=rows, num_bytes=num_bytes, sha256=sha256, fingerprint=fingerprint, code=code.digest
    )
    return StoredShard(entry, meta["quarantined"], code)


def _footer(file: BinaryIO, num_bytes: int) -> bytes:
    """The Parquet footer of `file`, from its first byte to the end of the file; empty when the file has none.

    A footer ends with its own length (4 bytes, little endian) and `PAR1`. One read suffices for all but very long ones.
    """
    file.seek(max(0, num_bytes - _FOOTER_GUESS))
    end = file.read(_FOOTER_GUESS)
    length = int.from_bytes(end[-8:-4], "little") + 8
    if end[-4:] != b"PAR1" or length > num_bytes:
        return b""
    if length > len(end):
        file.seek(num_bytes - length)
        end = file.read(length)
    return end[-length:]


def data_checksum(folder: str, name: str) -> str | None:
    """The SHA-256 of a shard's data, all bytes before its footer; None when the file is missing or not whole."""
    num_bytes = file_sizes(folder).get(name)
    if num_bytes is None:
        return None
    digest = hashlib.sha256()
    with open_input(join(folder, name)) as file:
        footer = _footer(file, num_bytes)
        if not footer:
            return None
        left = num_bytes - len(footer)
        file.seek(0)
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def encode_quarantine(rows: Sequence[Mapping[str, str]]) -> bytes:
    """The bytes of `_quarantine.parquet`."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=QUARANTINE.arrow), sink, compression="zstd")
    return sink.getvalue()


def read_quarantine(folder: str) -> pa.Table:
    """The failed clips of the data set in `folder`, with the class and text of the error."""
    with open_input(join(folder, QUARANTINE_FILE)) as file:
        # In this thread: a program that ends while Arrow's pool is still starting is aborted.
        return pq.ParquetFile(pa.BufferReader(file.read())).read(use_threads=False)
