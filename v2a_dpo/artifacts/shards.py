"""Writing a data set shard by shard: each shard appears whole or not at all, and a finished one is never made again.

A shard is one Parquet file that carries its own fingerprint and its own quarantined rows in the file's metadata. So the
only thing that can be half done after a kill is a shard that is not there, and everything else (`_manifest.json`,
`_quarantine.parquet`) is derived from the shards that are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from v2a_dpo.artifacts.fingerprint import file_checksum, fingerprint
from v2a_dpo.artifacts.location import filesystem, join, list_names, remove, remove_partials, write_atomically
from v2a_dpo.artifacts.manifest import (
    MANIFEST,
    QUARANTINE_FILE,
    Manifest,
    ShardEntry,
    software_versions,
    write_manifest,
)
from v2a_dpo.artifacts.schema import QUARANTINE, TableSchema
from v2a_dpo.errors import UserError

_META = b"v2a_dpo.shard"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class QuarantinedRow:
    """A clip that failed: the class and the text of its error."""

    clip_id: str
    error: str
    message: str

    @staticmethod
    def of(clip_id: str, error: BaseException) -> QuarantinedRow:
        """The row for `error`, raised while working on `clip_id`."""
        return QuarantinedRow(clip_id, type(error).__name__, str(error))


@dataclass(frozen=True)
class ShardContent:
    """What making a shard returns: its rows, and the clips that failed."""

    rows: pa.Table | Sequence[Mapping[str, Any]]
    quarantined: Sequence[QuarantinedRow] = ()


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: `inputs` is all that its content depends on besides the data set's parameters."""

    payload: Any
    inputs: Sequence[str]


@dataclass
class BuildSummary:
    """What a build did: shards made and found finished, rows, and clips in quarantine by error class."""

    made: int = 0
    kept: int = 0
    rows: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {error}" for error, count in sorted(self.quarantined.items()))
        return (
            f"{self.rows} rows; {self.made} shards made, {self.kept} already there; quarantined: {failures or 'none'}"
        )


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"part-{index:05d}.parquet"


def build_dataset(
    folder: str,
    schema: TableSchema,
    *,
    parameters: Any,
    inputs: Mapping[str, str],
    tasks: Sequence[ShardTask],
    make: Callable[[Any], ShardContent],
    progress: Progress = lambda done, total: None,
    only: Sequence[int] | None = None,
) -> BuildSummary:
    """Makes the shards of `tasks` that are missing or stale in `folder`, then the manifest, and says what was done.

    `parameters` (JSON or pydantic) and `inputs` (name -> fingerprint of an upstream artifact, recorded for lineage) describe the
    data set; a shard is stale when the schema, the parameters or its own task's inputs changed. `make(payload)` returns a
    shard's content. With `only`, just these shards are made and the manifest is left to whoever builds without it: that
    is how many workers share one folder. Raises UserError when `folder` cannot be written.
    """
    base = fingerprint(schema.name, schema.version, str(schema.arrow), _schema_types(schema), parameters)
    summary = BuildSummary()
    wanted = range(len(tasks)) if only is None else only
    for done, index in enumerate(wanted):
        task = tasks[index]
        shard_fingerprint = fingerprint(base, list(task.inputs))
        name = shard_name(index)
        remove_partials(folder, name)
        stored = _stored_shard(folder, name)
        if stored is not None and stored[0]["fingerprint"] == shard_fingerprint:
            summary.kept += 1
        else:
            write_atomically(join(folder, name), _encode(make(task.payload), schema, shard_fingerprint))
            summary.made += 1
        progress(done + 1, len(wanted))
    if only is None:
        _finish(folder, schema, base, inputs, len(tasks), summary)
    return summary


def _schema_types(schema: TableSchema) -> list[list[str]]:
    return [[item.name, str(item.type), str(item.metadata)] for item in schema.arrow]


def _encode(content: ShardContent, schema: TableSchema, shard_fingerprint: str) -> bytes:
    rows = content.rows
    table = (
        rows.select(schema.arrow.names).cast(schema.arrow)
        if isinstance(rows, pa.Table)
        else pa.Table.from_pylist(list(rows), schema=schema.arrow)
    )
    meta = {"fingerprint": shard_fingerprint, "quarantined": [asdict(row) for row in content.quarantined]}
    table = table.replace_schema_metadata({_META: json.dumps(meta, sort_keys=True)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=8192, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _stored_shard(folder: str, name: str) -> tuple[dict[str, Any], int] | None:
    """A stored shard's own metadata and row count; None when there is no such file or it is not a whole shard of ours."""
    if name not in list_names(folder):
        return None
    fs, path = filesystem(join(folder, name))
    try:
        with fs.open(path, "rb") as file:
            footer = pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError):
        return None
    meta = (footer.metadata or {}).get(_META)
    return None if meta is None else (json.loads(meta), footer.num_rows)


def _finish(
    folder: str, schema: TableSchema, base: str, inputs: Mapping[str, str], count: int, summary: BuildSummary
) -> None:
    """Removes shards of an earlier, longer build and writes quarantine and manifest from what the shards say."""
    names = [shard_name(index) for index in range(count)]
    for stale in set(list_names(folder)) - set(names) - {MANIFEST, QUARANTINE_FILE}:
        remove(join(folder, stale))
    entries, quarantined = [], []
    for name in names:
        stored = _stored_shard(folder, name)
        if stored is None:
            raise UserError(
                "This shard is missing or damaged although it was just written.",
                where=join(folder, name),
                remedy="Check that nobody else writes here, and run the stage again.",
            )
        meta, rows = stored
        sha256 = file_checksum(join(folder, name))
        entries.append(ShardEntry(name=name, rows=rows, sha256=sha256, fingerprint=meta["fingerprint"]))
        quarantined += meta["quarantined"]
    for row in quarantined:
        summary.quarantined[row["error"]] = summary.quarantined.get(row["error"], 0) + 1
    summary.rows = sum(entry.rows for entry in entries)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(quarantined, schema=QUARANTINE.arrow), sink, compression="zstd")
    write_atomically(join(folder, QUARANTINE_FILE), sink.getvalue().to_pybytes())
    write_manifest(
        folder,
        Manifest(
            schema_name=schema.name,
            schema_version=schema.version,
            parameters=base,
            inputs=dict(inputs),
            shards=entries,
            quarantined=len(quarantined),
            software=software_versions(),
        ),
    )
