"""The folder `WEIGHTS_DIR`: one folder per official file, with the converted weights and a record of their source.

A folder `<name>` holds `model.safetensors`, `record.json` and, for a generator, the `config.json` that makes it a model
folder. It appears by one rename, so it is whole or absent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from v2a_dpo.artifacts.fingerprint import file_digests
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.weights.catalog import FILES, OfficialFile

if TYPE_CHECKING:
    from torch import Tensor

MODEL_FILE = "model.safetensors"
RECORD_FILE = "record.json"
MIB = 1 << 20

#: Why an imported file counts as the official one: its published checksum fits; none is published, so the first
#: import's is kept and later ones are compared with it; or the user accepted the file unverified.
Trust = Literal["published checksum", "first import", "unverified"]


class WeightsRecord(BaseModel):
    """An import: the source file's checksums and licence, and the size and checksum of the converted weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source_file: str
    source_bytes: int
    source_md5: str
    source_sha256: str
    trust: Trust
    licence: str
    tensors: int
    parameters: int
    sha256: str
    bytes: int


class Digests(NamedTuple):
    """MD5 (the one that is published) and SHA-256 (the one that is recorded), in hexadecimal."""

    md5: str
    sha256: str


def digests(path: Path, title: str, progress: Progress = silent) -> Digests:
    """Both checksums of the file at `path`; `progress` gets `title` with MiB done and in total."""
    total = -(-path.stat().st_size // MIB)
    return Digests(*file_digests(path, "md5", "sha256", progress=lambda done: progress(title, -(-done // MIB), total)))


@dataclass(frozen=True)
class Store:
    """The weights below one folder."""

    root: Path

    @staticmethod
    def default() -> Store:
        """The folder that the environment variable `WEIGHTS_DIR` names, or `weights`."""
        return Store(Path(os.environ.get("WEIGHTS_DIR") or "weights"))

    def folder(self, name: str) -> Path:
        """The folder of the imported file called `name`."""
        return self.root / name

    def files(self, *names: str) -> dict[str, Path]:
        """Name -> file of the weights called `names`."""
        return {name: self.folder(name) / MODEL_FILE for name in names}

    def downloads(self) -> Path:
        """The folder of downloads that are not imported yet."""
        return self.root / ".downloads"

    def record(self, name: str) -> WeightsRecord | None:
        """The record of the import of `name`, or None. Raises UserError when the record is damaged."""
        path = self.folder(name) / RECORD_FILE
        try:
            return WeightsRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            remedy = "Import the file again."
            raise UserError(f"This record cannot be read: {error}", where=str(path), remedy=remedy) from error

    def missing(self, *names: str) -> list[str]:
        """The ones of `names` that are not imported."""
        return [name for name in names if self.record(name) is None]

    def require(self, *names: str) -> None:
        """Raises UserError that names the missing files and the commands that fetch them."""
        if missing := self.missing(*names):
            files = ", ".join(f"{name} ({FILES[name].file_name})" for name in missing)
            remedy = (
                f"Run `v2a-dpo weights fetch {' '.join(missing)}`, or, without a network, fetch each file by hand and "
                "run `v2a-dpo weights import FILE`; WEIGHTS_DIR names another folder."
            )
            raise UserError(f"Official weights are missing: {files}.", where=str(self.root), remedy=remedy)

    def state(self, name: str, *, prefix: str = "") -> dict[str, Tensor]:
        """Key -> tensor of `name`, mapped from the file and not copied; only keys that start with `prefix`.

        Raises UserError when the file was never imported or cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        self.require(name)
        path = self.folder(name) / MODEL_FILE
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            remedy = f"Run `v2a-dpo weights verify {name}`, and import the file again."
            raise UserError(f"These weights cannot be read: {error}", where=str(path), remedy=remedy) from error

    def damage(self, name: str, *, progress: Progress = silent) -> str | None:
        """The damage to the imported weights called `name`; None when every byte is as it was imported."""
        record = self.record(name)
        if record is None:
            return "not imported"
        path = self.folder(name) / MODEL_FILE
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != record.bytes:
            return f"{path} has {path.stat().st_size} bytes instead of {record.bytes}"
        sha256 = digests(path, f"verify {name} (MiB)", progress).sha256
        return None if sha256 == record.sha256 else f"{path} has SHA-256 {sha256} instead of {record.sha256}"


def accept_licence(file: OfficialFile, *, noncommercial: bool) -> None:
    """Raises UserError when `file` is for non-commercial use only and the user has not accepted that."""
    if file.noncommercial and not noncommercial:
        what = f"{file.name} is licensed for non-commercial use only ({file.licence})."
        raise UserError(what, where=file.url, remedy="If that suits your use, accept it with --accept-noncommercial.")
