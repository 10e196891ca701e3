"""The folder `WEIGHTS_DIR`: one folder a file, with the converted weights and a record of what they were made of.

A folder `<name>` holds `model.safetensors`, `record.json` and, for a generator, the `config.json` that makes it a model
folder. It appears by one rename, so what is there is whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.weights.catalog import FILES, OfficialFile
from v2a_dpo.weights.digest import digests

if TYPE_CHECKING:
    from torch import Tensor

MODEL_FILE = "model.safetensors"
RECORD_FILE = "record.json"

#: How far an imported file is known to be the official one: its published checksum fits; nobody publishes one, so the
#: first import's is kept and compared from then on; or the user accepted it as it was.
Trust = Literal["published checksum", "first import", "unverified"]


class WeightsRecord(BaseModel):
    """What was imported: the source file's checksums, and those of the converted weights."""

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


@dataclass(frozen=True)
class Store:
    """The weights below one folder."""

    root: Path

    @staticmethod
    def default() -> Store:
        """The folder that the environment variable `WEIGHTS_DIR` names, or `weights`."""
        return Store(Path(os.environ.get("WEIGHTS_DIR") or "weights"))

    def folder(self, name: str) -> Path:
        """Where the file called `name` lives once imported."""
        return self.root / name

    def files(self, *names: str) -> dict[str, Path]:
        """The files with the weights called `names`, by name."""
        return {name: self.folder(name) / MODEL_FILE for name in names}

    def downloads(self) -> Path:
        """Where downloads wait for their import."""
        return self.root / ".downloads"

    def record(self, name: str) -> WeightsRecord | None:
        """What was imported as `name`, or None. Raises UserError when the record is damaged."""
        path = self.folder(name) / RECORD_FILE
        try:
            return WeightsRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            remedy = "Import the file again."
            raise UserError(f"This record cannot be read: {error}", where=str(path), remedy=remedy) from error

    def missing(self, *names: str) -> list[str]:
        """Those of `names` that are not imported."""
        return [name for name in names if self.record(name) is None]

    def require(self, *names: str) -> None:
        """Raises UserError naming the files that are missing and the commands that bring them."""
        missing = self.missing(*names)
        if missing:
            files = ", ".join(f"{name} ({FILES[name].file_name})" for name in missing)
            remedy = (
                f"Run `v2a-dpo weights fetch {' '.join(missing)}`, or, without a network, fetch each "
                "file by hand and run "
                "`v2a-dpo weights import FILE`; WEIGHTS_DIR names another folder."
            )
            raise UserError(f"Official weights are missing: {files}.", where=str(self.root), remedy=remedy)

    def state(self, name: str, *, prefix: str = "") -> dict[str, Tensor]:
        """The tensors of `name` by key, mapped from the file and not copied; with `prefix` only the keys that start so.

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
        """What is wrong with the imported weights called `name`, or None when every byte is as it was imported."""
        record = self.record(name)
        if record is None:
            return "not imported"
        path = self.folder(name) / MODEL_FILE
        if not path.is_file():
            return f"{path} is gone"
        if path.stat().st_size != record.bytes:
            return f"{path} has {path.stat().st_size} bytes instead of {record.bytes}"
        sha256 = digests(path, progress=lambda done, total: progress(f"verify {name} (MiB)", done, total)).sha256
        return None if sha256 == record.sha256 else f"{path} has SHA-256 {sha256} instead of {record.sha256}"


def accept_licence(file: OfficialFile, *, noncommercial: bool) -> None:
    """Raises UserError when `file` is for non-commercial use alone and the user has not accepted that."""
    if file.noncommercial and not noncommercial:
        raise UserError(
            f"{file.name} is licensed for non-commercial use only ({file.licence}).",
            where=file.url,
            remedy="If that suits your use, say so with --accept-noncommercial.",
        )
