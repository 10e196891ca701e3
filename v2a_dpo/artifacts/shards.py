"""Writing a data set shard by shard: each shard appears whole or not at all, and a finished one is never made again.

A shard carries its own fingerprints, checksum and quarantined rows (`shard_file.py`). So after a kill some shards are
absent and none is half done, and everything else (`_manifest.json`, `_quarantine.parquet`) is derived from the shards.
The manifest is deleted before the first shard is replaced: no reader gets old and new shards mixed.
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

#: The only files that a build may delete: shards, and partial files of killed writers.
_SHARD = re.compile(r"part-\d{5,}\.parquet")
_PARTIAL = re.compile(r"\.(part-\d{5,}\.parquet|_manifest\.json|_quarantine\.parquet)\.[0-9a-f]{32}\.partial")


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: `inputs` are all that its content depends on besides the data set's parameters."""

    payload: Any
    inputs: Sequence[str]


@dataclass
class BuildSummary:
    """Shards made and kept by a build, rows, clips in quarantine by error class, and kept shards of other code."""

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
    """Makes the shards of `tasks` that are missing or stale in `folder`, then the manifest.

    `parameters` (JSON or pydantic) and `inputs` (name -> fingerprint of an upstream artifact, recorded for lineage)
    describe the data set; `make(payload)` returns a shard's content, and `code` is the code behind it. A shard is stale
    when the schema, the parameters, its own task's inputs or the code changed; with `keep` a change of the code alone
    leaves it as it is, which the manifest records. `only` makes just these shards and writes no manifest, so that
    several workers can fill one folder. Raises UserError when `folder` cannot be written, holds a data set of another
    schema, or when there are no tasks.
    """
    if not tasks:
        what = "There is nothing to make: the input has no rows."
        raise UserError(what, where=folder, remedy="Check the stage before.")
    requested = {shard_name(index): tasks[index] for index in (range(len(tasks)) if only is None else only)}
    base = fingerprint(schema.name, schema.version, _schema_types(schema), parameters)
    prints = {name: fingerprint(base, list(task.inputs)) for name, task in requested.items()}
    build = _Build(folder, schema, base, dict(inputs), prints, code, keep, whole=only is None)
    sizes = file_sizes(folder)
    manifest = build.earlier_manifest(sizes)
    if manifest is not None:
        if build.is_current(manifest, sizes):
            progress(len(requested), len(requested))
            return build.left_alone(manifest)
        remove(join(folder, MANIFEST))
    if build.whole:
        _clear_away(folder, sizes, requested)
    shards = build.finished(sizes)
    num_kept = len(shards)
    for done, (name, task) in enumerate(requested.items(), start=1):
        if name not in shards:
            shards[name] = write_shard(folder, name, make(task.payload), schema, fingerprint=prints[name], code=code)
        progress(done, len(requested))
    return build.completed([shards[name] for name in requested], kept=num_kept)


@dataclass(frozen=True)
class _Build:
    """One build: `prints` are the fingerprints of the requested shards, by name; `whole` is whether these are all."""

    folder: str
    schema: TableSchema
    parameters: str
    inputs: dict[str, str]
    prints: Mapping[str, str]
    code: Code
    keep: bool
    whole: bool

    def earlier_manifest(self, sizes: Mapping[str, int]) -> Manifest | None:
        """The manifest of an earlier build, if any; raises UserError when it is of another schema."""
        manifest = read_manifest(self.folder) if MANIFEST in sizes else None
        if manifest is not None and manifest.schema_name != self.schema.name:
            what = f"This folder holds {manifest.schema_name}; {self.schema.name} would overwrite them."
            remedy = "Choose another output folder, or delete this one if it is not needed."
            raise UserError(what, where=self.folder, remedy=remedy)
        return manifest

    def is_current(self, manifest: Manifest, sizes: Mapping[str, int]) -> bool:
        """Whether manifest and listing alone show that every requested shard is finished, without opening a shard."""
        entries = {entry.name: entry for entry in manifest.shards}
        names = self.prints.keys()
        return (
            (entries.keys() == names if self.whole else names <= entries.keys())
            and QUARANTINE_FILE in sizes
            and all(entries[name].fingerprint == expected for name, expected in self.prints.items())
            and (self.keep or all(entries[name].code == self.code.digest for name in names))
            and all(sizes.get(name) == entries[name].num_bytes for name in names)
        )

    def left_alone(self, manifest: Manifest) -> BuildSummary:
        """The summary of a folder that is up to date; only the recorded lineage may need a new manifest."""
        quarantined: list[dict[str, str]] = []
        if self.whole:
            codes = {entry.code: manifest.codes[entry.code] for entry in manifest.shards}
            codes[self.code.digest] = dict(self.code.functions)
            recorded = manifest.model_copy(update={"inputs": self.inputs, "code": self.code.digest, "codes": codes})
            if recorded != manifest:
                write_manifest(self.folder, recorded)
                manifest = recorded
            quarantined = read_quarantine(self.folder).to_pylist()
        rows = sum(entry.rows for entry in manifest.shards if entry.name in self.prints)
        return BuildSummary(0, len(self.prints), rows, _count_errors(quarantined), manifest.kept)

    def finished(self, sizes: Mapping[str, int]) -> dict[str, StoredShard]:
        """The shards that need not be made, by name; warns about those that only the code makes stale."""
        stored = {name: stored_shard(self.folder, name, sizes[name]) for name in self.prints if name in sizes}
        same = {name: item for name, item in stored.items() if item and item.entry.fingerprint == self.prints[name]}
        stale = [shard for shard in same.values() if shard.entry.code != self.code.digest]
        if self.keep or not stale:
            return same
        changed = sorted({name for shard in stale for name in self.code.changed(shard.code.functions)})
        rows, num_bytes = sum(shard.entry.rows for shard in stale), sum(shard.entry.num_bytes for shard in stale)
        warn_of_other_code(self.folder, f"{len(stale)} shards, {rows} rows, {num_bytes / 2**20:.1f} MiB", changed)
        return {name: shard for name, shard in same.items() if shard.entry.code == self.code.digest}

    def completed(self, shards: Sequence[StoredShard], *, kept: int) -> BuildSummary:
        """Writes quarantine and manifest of a whole data set, and returns the summary."""
        quarantined = [row for shard in shards for row in shard.quarantined]
        manifest = Manifest(
            schema_name=self.schema.name,
            schema_version=self.schema.version,
            parameters=self.parameters,
            code=self.code.digest,
            codes={item.digest: dict(item.functions) for item in [self.code, *(shard.code for shard in shards)]},
            inputs=self.inputs,
            shards=[shard.entry for shard in shards],
            quarantined=len(quarantined),
            software=software_versions(),
        )
        if self.whole:
            write_atomically(join(self.folder, QUARANTINE_FILE), encode_quarantine(quarantined))
            write_manifest(self.folder, manifest)
        return BuildSummary(len(shards) - kept, kept, manifest.rows, _count_errors(quarantined), manifest.kept)


def _schema_types(schema: TableSchema) -> list[list[str]]:
    return [[item.name, str(item.type), str(item.nullable), str(item.metadata)] for item in schema.arrow]


def _count_errors(quarantined: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return dict(Counter(row["error"] for row in quarantined))


def _clear_away(folder: str, sizes: Mapping[str, int], requested: Mapping[str, object]) -> None:
    """Deletes the shards of an earlier, longer build and the partial files of killed writers; other files stay."""
    for name in sizes:
        if _PARTIAL.fullmatch(name) or (_SHARD.fullmatch(name) and name not in requested):
            remove(join(folder, name))
