"""`_manifest.json`: the content of a data set folder and its origin."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict, ValidationError

from v2a_dpo.artifacts.code import Code
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.location import join, list_names, read_bytes
from v2a_dpo.errors import UserError

MANIFEST = "_manifest.json"
QUARANTINE_FILE = "_quarantine.parquet"


class ShardEntry(BaseModel):
    """One shard: file name, rows, size, SHA-256 of its data, fingerprint of its inputs and digest of its code.

    `sha256` covers the file up to the Parquet footer. The footer repeats it, so that a folder which many workers filled
    is finished without reading the data again.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    rows: int
    num_bytes: int
    sha256: str
    fingerprint: str
    code: str


@dataclass(frozen=True)
class KeptShards:
    """The number of shards kept although their code had changed, and the names of the changed definitions."""

    shards: int
    changed: list[str]

    def __str__(self) -> str:
        return f"{self.shards} shards kept from before a change of {', '.join(self.changed)}"


class Manifest(BaseModel):
    """The whole data set; the same content always gives the same bytes, so no time stamps.

    `code` is the digest of the code that completed it, `codes` the definitions (name -> digest) of each code that made
    a shard. They differ where finished shards were kept on request although the code had changed.
    """

    model_config = ConfigDict(extra="forbid")

    schema_name: str
    schema_version: int
    parameters: str
    code: str
    codes: dict[str, dict[str, str]]
    inputs: dict[str, str]
    shards: list[ShardEntry]
    quarantined: int
    software: dict[str, str]

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """A digest of the content of all shards, whatever their inputs and code."""
        content = [[shard.name, shard.rows, shard.sha256] for shard in self.shards]
        return fingerprint(self.schema_name, self.schema_version, content)

    @property
    def kept(self) -> KeptShards:
        """The shards made by other code than the code that completed the data set."""
        current = Code(self.codes[self.code])
        others = [shard.code for shard in self.shards if shard.code != self.code]
        changed = {name for code in others for name in current.changed(self.codes[code])}
        return KeptShards(len(others), sorted(changed))


def software_versions() -> dict[str, str]:
    """Versions of the packages that decide on an artifact's bytes."""
    return {package: version(package) for package in ("v2a-dpo", "torch", "pyarrow", "av")}


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes the manifest of `folder` in one step."""
    write_json(join(folder, MANIFEST), manifest.model_dump(mode="json"))


def read_manifest(folder: str) -> Manifest:
    """The manifest of the data set in `folder`.

    Raises UserError when it is missing (the stage did not finish), damaged, or of another version.
    """
    if MANIFEST not in list_names(folder):
        remedy = "Run the stage that makes it; it resumes where it stopped."
        raise UserError("This folder holds no finished data set (no _manifest.json).", where=folder, remedy=remedy)
    try:
        return Manifest.model_validate_json(read_bytes(join(folder, MANIFEST)))
    except ValidationError as error:
        remedy = "Delete it and run the stage that makes this folder again; whole shards are kept."
        what = f"This manifest is damaged or of another version: {error}"
        raise UserError(what, where=join(folder, MANIFEST), remedy=remedy) from error
