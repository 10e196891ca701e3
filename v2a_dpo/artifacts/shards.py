"""Writing a data set shard by shard: each shard appears whole or not at all, and a finished one is never made again.

A shard carries its own fingerprints, checksum and quarantined rows (`shard_file.py`). So the only thing that can be
half done after a kill is a shard that is not there, and everything else (`_manifest.json`, `_quarantine.parquet`) is
derived from the shards that are. The manifest vanishes before the first shard is replaced: no reader meets old and new
shards mixed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from v2a_dpo.artifacts.code import Code, warn_of_other_code
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.location import file_sizes, join, remove, write_atomically
from v2a_dpo.artifacts.manifest import (
    MANIFEST,
    QUARANTINE_FILE,
    KeptShards,
    Manifest,
    read_manifest,
    software_versions,
    write_manifest,
)
from v2a_dpo.artifacts.schema import TableSchema
from v2a_dpo.artifacts.shard_file import (
    QuarantinedRow,
    ShardContent,
    StoredShard,
    encode_quarantine,
    read_quarantine,
    stored_shard,
    write_shard,
)
from v2a_dpo.errors import UserError

__all__ = ["BuildSummary", "QuarantinedRow", "ShardContent", "ShardTask", "build_dataset", "shard_name"]

ShardProgress = Callable[[int, int], None]

#: What builds leave in a folder and may delete again: shards, and partial files of killed writers. Nothing else is
#: ours.
_SHARD = re.compile(r"part-\d{5,}\.parquet")
_PARTIAL = re.compile(r"\.(part-\d{5,}\.parquet|_manifest\.json|_quarantine\.parquet)\.[0-9a-f]{32}\.partial")


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: `inputs` is all that its content depends on besides the data set's parameters."""

    payload: Any
    inputs: Sequence[str]


@dataclass
class BuildSummary:
    """What a build did: shards made and found finished, rows, clips in quarantine by error class, shards of other
    code."""

    made: int = 0
    kept: int = 0
    rows: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    other_code: KeptShards = field(default_factory=lambda: KeptShards(0, []))

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {error}" for error, count in sorted(self.quarantined.items()))
        text = (
            f"{self.rows} rows; {self.made} shards made, {self.kept} already there; quarantined: {failures or 'none'}"
        )
        return f"{text}; {self.other_code}" if self.other_code.shards else text


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
    code: Code,
    keep: bool = False,
    progress: ShardProgress = lambda done, total: None,
    only: Sequence[int] | None = None,
) -> BuildSummary:
    """Makes the shards of `tasks` that are missing or stale in `folder`, then the manifest, and says what was done.

    `parameters` (JSON or pydantic) and `inputs` (name -> fingerprint of an upstream artifact, recorded for lineage)
    describe the data set; `make(payload)` returns a shard's content, and `code` is what decides on it. A shard is stale
    when the schema, the parameters, its own task's inputs or the code changed; with `keep` a change of the code alone
    leaves it as it is, which the manifest records. `only` makes just these shards and writes no manifest, so that
    several workers can fill one folder. Raises UserError when `folder` cannot be written, holds a data set of another
    schema, or when there are no tasks.
    """
    if not tasks:
        raise UserError(
            "There is nothing to make: the input has no rows.", where=folder, remedy="Check the stage before."
        )
    base = fingerprint(schema.name, schema.version, _schema_types(schema), parameters)
    wanted = {shard_name(index): tasks[index] for index in (range(len(tasks)) if only is None else only)}
    prints = {name: fingerprint(base, list(task.inputs)) for name, task in wanted.items()}
    sizes = file_sizes(folder)
    manifest = _own_manifest(folder, schema, sizes)
    if manifest is not None and _is_current(manifest, prints, sizes, code, keep=keep, whole=only is None):
        progress(len(wanted), len(wanted))
        return _left_alone(folder, manifest, inputs, prints, code, whole=only is None)

    if manifest is not None:
        remove(join(folder, MANIFEST))
    if only is None:
        _clear_away(folder, sizes, wanted)
    finished = _finished(folder, prints, sizes, code, keep=keep)
    shards: list[StoredShard] = []
    made = len(wanted) - len(finished)
    for name, task in wanted.items():
        if name not in finished:
            content = make(task.payload)
            finished[name] = write_shard(folder, name, content, schema, fingerprint=prints[name], code=code)
        shards.append(finished[name])
        progress(len(shards), len(wanted))
    return _completed(folder, schema, base, inputs, shards, code, made=made, whole=only is None)


def _finished(
    folder: str, prints: Mapping[str, str], sizes: Mapping[str, int], code: Code, *, keep: bool
) -> dict[str, StoredShard]:
    """The shards that need not be made, by name; warns about those that only the code makes stale."""
    stored = {name: stored_shard(folder, name, sizes[name]) for name in prints if name in sizes}
    same = {
        name: shard for name, shard in stored.items() if shard is not None and shard.entry.fingerprint == prints[name]
    }
    stale = [shard for shard in same.values() if shard.entry.code != code.digest]
    if keep or not stale:
        return same
    changed = sorted({name for shard in stale for name in code.changed(shard.code.functions)})
    rows, num_bytes = sum(shard.entry.rows for shard in stale), sum(shard.entry.num_bytes for shard in stale)
    warn_of_other_code(folder, f"{len(stale)} shards, {rows} rows, {num_bytes / 2**20:.1f} MiB", changed)
    return {name: shard for name, shard in same.items() if shard.entry.code == code.digest}


def _schema_types(schema: TableSchema) -> list[list[str]]:
    return [[item.name, str(item.type), str(item.nullable), str(item.metadata)] for item in schema.arrow]


def _count_errors(quarantined: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return dict(Counter(row["error"] for row in quarantined))


def _own_manifest(folder: str, schema: TableSchema, sizes: Mapping[str, int]) -> Manifest | None:
    """The manifest that an earlier build left, if any; refuses to build over a data set of another kind."""
    manifest = read_manifest(folder) if MANIFEST in sizes else None
    if manifest is not None and manifest.schema_name != schema.name:
        raise UserError(
            f"This folder holds {manifest.schema_name}; {schema.name} would overwrite them.",
            where=folder,
            remedy="Choose another output folder, or delete this one if nobody needs it.",
        )
    return manifest


def _is_current(
    manifest: Manifest, prints: Mapping[str, str], sizes: Mapping[str, int], code: Code, *, keep: bool, whole: bool
) -> bool:
    """Whether the manifest and the listing alone show that there is nothing to make: no shard needs to be opened."""
    entries = {entry.name: entry for entry in manifest.shards}
    return (
        (entries.keys() == prints.keys() if whole else prints.keys() <= entries.keys())
        and QUARANTINE_FILE in sizes
        and all(entries[name].fingerprint == expected for name, expected in prints.items())
        and (keep or all(entries[name].code == code.digest for name in prints))
        and all(sizes.get(name) == entries[name].num_bytes for name in prints)
    )


def _left_alone(
    folder: str, manifest: Manifest, inputs: Mapping[str, str], prints: Mapping[str, str], code: Code, *, whole: bool
) -> BuildSummary:
    """What to say of a folder that is up to date; only the recorded lineage may need a new manifest."""
    if whole:
        codes = {entry.code: manifest.codes[entry.code] for entry in manifest.shards}
        codes[code.digest] = dict(code.functions)
        recorded = manifest.model_copy(update={"inputs": dict(inputs), "code": code.digest, "codes": codes})
        if recorded != manifest:
            write_manifest(folder, recorded)
            manifest = recorded
    rows = sum(entry.rows for entry in manifest.shards if entry.name in prints)
    quarantined = read_quarantine(folder).to_pylist() if whole else []
    return BuildSummary(0, len(prints), rows, _count_errors(quarantined), manifest.kept)


def _completed(
    folder: str,
    schema: TableSchema,
    parameters: str,
    inputs: Mapping[str, str],
    shards: Sequence[StoredShard],
    code: Code,
    *,
    made: int,
    whole: bool,
) -> BuildSummary:
    """Writes quarantine and manifest of the `whole` data set, and sums up what was done."""
    quarantined = [row for shard in shards for row in shard.quarantined]
    manifest = Manifest(
        schema_name=schema.name,
        schema_version=schema.version,
        parameters=parameters,
        code=code.digest,
        codes={item.digest: dict(item.functions) for item in [code, *(shard.code for shard in shards)]},
        inputs=dict(inputs),
        shards=[shard.entry for shard in shards],
        quarantined=len(quarantined),
        software=software_versions(),
    )
    if whole:
        write_atomically(join(folder, QUARANTINE_FILE), encode_quarantine(quarantined))
        write_manifest(folder, manifest)
    return BuildSummary(made, len(shards) - made, manifest.rows, _count_errors(quarantined), manifest.kept)


def _clear_away(folder: str, sizes: Mapping[str, int], wanted: Mapping[str, object]) -> None:
    """Deletes the shards of an earlier, longer build and what killed writers left; other people's files stay."""
    for name in sizes:
        if _PARTIAL.fullmatch(name) or (_SHARD.fullmatch(name) and name not in wanted):
            remove(join(folder, name))
