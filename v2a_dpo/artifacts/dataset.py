"""Reading a data set by columns and by shard: a reader of scores loads no audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from v2a_dpo.artifacts.location import join, open_input
from v2a_dpo.artifacts.manifest import Manifest, ShardEntry, read_manifest
from v2a_dpo.artifacts.schema import TableSchema, is_tensor, tensor_type
from v2a_dpo.artifacts.shard_file import data_checksum, read_quarantine
from v2a_dpo.errors import UserError

_WRONG_FOLDER = "Check which folder goes where."


@dataclass(frozen=True)
class Dataset:
    """A finished data set folder, local or on S3."""

    folder: str
    manifest: Manifest

    @staticmethod
    def open(folder: str, schema: TableSchema | str | None = None) -> Dataset:
        """The data set in `folder`; raises UserError when it is unfinished or of another kind than `schema`."""
        manifest = read_manifest(folder)
        name = schema.name if isinstance(schema, TableSchema) else schema
        if name is not None and manifest.schema_name != name:
            what = f"This folder holds {manifest.schema_name}, but {name} are needed."
            raise UserError(what, where=folder, remedy=_WRONG_FOLDER)
        return Dataset(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """A digest of the whole content."""
        return self.manifest.fingerprint

    @property
    def num_rows(self) -> int:
        """Rows in all shards."""
        return self.manifest.rows

    @property
    def shards(self) -> list[ShardEntry]:
        """The shards in order."""
        return self.manifest.shards

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of one row of each tensor column, taken from the first shard."""
        with open_input(join(self.folder, self.shards[0].name)) as file:
            columns = pq.read_schema(file)
        return {column.name: tensor_type(column).shape for column in columns if is_tensor(column)}

    def shard(self, entry: ShardEntry, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard's rows. Raises UserError when the file is missing or damaged, or has not all of `columns`."""
        uri = join(self.folder, entry.name)
        with open_input(uri) as file:
            try:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                _check_columns(uri, parquet.schema_arrow.names, columns)
                return parquet.read(columns=list(columns) if columns is not None else None)
            except (OSError, pa.ArrowException) as error:
                remedy = "If it is damaged, delete it and run the stage that makes it; only this shard is re-made."
                what = f"This shard is damaged or cannot be read: {error}"
                raise UserError(what, where=uri, remedy=remedy) from error

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The shards' rows, one table per shard, in order."""
        for entry in self.shards:
            yield self.shard(entry, columns)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in one table."""
        return pa.concat_tables(self.tables(columns))

    def quarantine(self) -> pa.Table:
        """The failed clips, with the class and text of the error."""
        return read_quarantine(self.folder)

    def verify(self) -> list[str]:
        """Reads all data: the names of the shards that are missing or differ from the manifest's checksums."""
        return [entry.name for entry in self.shards if data_checksum(self.folder, entry.name) != entry.sha256]


def _check_columns(uri: str, names: list[str], columns: Sequence[str] | None) -> None:
    """Raises UserError for columns that the shard does not have: Parquet readers ignore them silently."""
    if unknown := sorted(set(columns or ()) - set(names)):
        what = f"This shard has no column {', '.join(unknown)}; it has {', '.join(names)}."
        raise UserError(what, where=uri, remedy=_WRONG_FOLDER)
