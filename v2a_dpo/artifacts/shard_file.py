"""One shard as a file: Parquet whose footer says what the shard was made from, what its data's checksum is, and which clips failed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from v2a_dpo.artifacts.location import file_sizes, join, open_input
from v2a_dpo.artifacts.manifest import QUARANTINE_FILE, ShardEntry
from v2a_dpo.artifacts.schema import QUARANTINE, TableSchema

_META = b"v2a_dpo.shard"
_ROW_GROUP_ROWS = 8192
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
    """What making a shard returns: its rows, and the clips that failed."""

    rows: pa.Table | Sequence[Mapping[str, Any]]
    quarantined: Sequence[QuarantinedRow] = ()


@dataclass(frozen=True)
class StoredShard:
    """What a shard's footer says, without reading its data."""

    entry: ShardEntry
    quarantined: list[dict[str, str]]


def encode_shard(
    content: ShardContent, schema: TableSchema, *, name: str, fingerprint: str
) -> tuple[bytes, StoredShard]:
    """The bytes of the shard `name`, and what their footer says; the same content gives the same bytes.

    Raises ValueError when the rows do not fit `schema`.
    """
    quarantined = [asdict(row) for row in content.quarantined]
    table = _table(content.rows, schema)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema.arrow, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        sha256 = hashlib.sha256(sink.getbuffer()).hexdigest()
        meta = {"fingerprint": fingerprint, "quarantined": quarantined, "sha256": sha256}
        writer.add_key_value_metadata({_META: json.dumps(meta, sort_keys=True)})
    encoded = sink.getvalue()
    entry = ShardEntry(name=name, rows=table.num_rows, num_bytes=len(encoded), sha256=sha256, fingerprint=fingerprint)
    return encoded, StoredShard(entry, quarantined)


def _table(rows: pa.Table | Sequence[Mapping[str, Any]], schema: TableSchema) -> pa.Table:
    names = schema.arrow.names
    if isinstance(rows, pa.Table):
        table = rows.select(names).cast(schema.arrow)
    else:
        for row in rows:
            if row.keys() != set(names):  # Arrow would drop what it does not know and fill what it misses with nulls
                raise ValueError(f"a row of {schema.name} has the fields {sorted(row)}, not {sorted(names)}")
        table = pa.Table.from_pylist(list(rows), schema=schema.arrow)
    for item in schema.arrow:
        if not item.nullable and table.column(item.name).null_count:
            raise ValueError(f"the column {item.name} of {schema.name} has nulls")
    return table


def stored_shard(folder: str, name: str, num_bytes: int) -> StoredShard | None:
    """What the footer of the shard `name` says; None when the file is not a whole shard of ours."""
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
    entry = ShardEntry(
        name=name,
        rows=parsed.num_rows,
        num_bytes=num_bytes,
        sha256=content["sha256"],
        fingerprint=content["fingerprint"],
    )
    return StoredShard(entry, content["quarantined"])


def _footer(file: BinaryIO, num_bytes: int) -> bytes:
    """The Parquet footer of `file`, from its first byte to the end of the file; empty when there is none.

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
    """The SHA-256 of the data in a shard, everything before its footer; None when there is no whole file."""
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
    """The clips of the data set in `folder` that failed, with the class and text of the error."""
    with open_input(join(folder, QUARANTINE_FILE)) as file:
        return pq.read_table(file)
