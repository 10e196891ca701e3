"""Checksums of a model folder's files, kept inside it, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

from pathlib import Path

from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.errors import UserError

CHECKSUMS_FILE = "checksums.sha256"
_REMEDY = "Make, download or package the model again; do not use this copy."


def record_checksums(folder: Path) -> None:
    """Writes the SHA-256 of every file in the local `folder` to `checksums.sha256` in it."""
    lines = [f"{file_checksum(folder / name)}  {name}\n" for name in _names(folder)]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def has_checksums(folder: Path) -> bool:
    """Whether the local `folder` holds recorded checksums."""
    return (folder / CHECKSUMS_FILE).is_file()


def require_checksums(folder: Path) -> None:
    """Raises UserError when the local `folder` holds no recorded checksums."""
    if not has_checksums(folder):
        raise UserError("The model has no recorded checksums.", where=str(folder / CHECKSUMS_FILE), remedy=_REMEDY)


def verify_checksums(folder: Path) -> None:
    """Compares every byte in the local `folder` with the recorded checksums.

    Raises UserError that names the first damaged, missing or unrecorded file, with the checksums.
    """
    require_checksums(folder)
    recorded = _recorded(folder / CHECKSUMS_FILE)
    for name, expected in recorded.items():
        path = folder / name
        if not path.is_file():
            what = f"A file of the model is missing: {name}, SHA-256 {expected}."
            raise UserError(what, where=str(path), remedy=_REMEDY)
        if (actual := file_checksum(path)) != expected:
            what = f"A file of the model is damaged: {name} has the SHA-256 {actual}, recorded is {expected}."
            raise UserError(what, where=str(path), remedy=_REMEDY)
    if unknown := sorted(set(_names(folder)) - set(recorded)):
        what = f"A file does not belong to the model: {unknown[0]}."
        raise UserError(what, where=str(folder / unknown[0]), remedy=_REMEDY)


def _names(folder: Path) -> list[str]:
    return [name for name in tree_names(folder) if name != CHECKSUMS_FILE]


def _recorded(checksums: Path) -> dict[str, str]:
    """File name -> recorded checksum; raises UserError when there are none."""
    try:
        lines = checksums.read_text(encoding="utf-8").splitlines()
        entries = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        what = f"The model's checksums cannot be read: {error}"
        raise UserError(what, where=str(checksums), remedy=_REMEDY) from error
    if not entries:
        raise UserError("The model has no recorded checksums.", where=str(checksums), remedy=_REMEDY)
    return entries
