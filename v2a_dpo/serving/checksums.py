"""Checksums of a model's files, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

from pathlib import Path

from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.errors import UserError

CHECKSUMS_FILE = "checksums.sha256"
_REMEDY = "Download or package the model again; do not use this copy."


def record_checksums(folder: Path, checksums: Path) -> None:
    """Writes the SHA-256 of every file in `folder` to the file `checksums` beside it."""
    lines = [f"{file_checksum(folder / name)}  {folder.name}/{name}\n" for name in tree_names(folder)]
    checksums.write_text("".join(lines), encoding="utf-8")


def verify_checksums(checksums: Path) -> None:
    """Compares every byte of the recorded files; raises UserError that names the first damaged file and its checksums.

    A file that nobody recorded is refused as well.
    """
    recorded = dict(_recorded(checksums))
    for path, expected in recorded.items():
        if not path.is_file():
            raise UserError(
                f"A file of the model is missing: {path.name}, SHA-256 {expected}.", where=str(path), remedy=_REMEDY
            )
        found = file_checksum(path)
        if found != expected:
            raise UserError(
                f"A file of the model is damaged: {path.name} has the SHA-256 {found}, recorded is {expected}.",
                where=str(path),
                remedy=_REMEDY,
            )
    for folder in {path.parent for path in recorded}:
        unknown = sorted({folder / name for name in tree_names(folder)} - set(recorded))
        if unknown:
            raise UserError(
                f"A file does not belong to the model: {unknown[0].name}.", where=str(unknown[0]), remedy=_REMEDY
            )


def _recorded(checksums: Path) -> list[tuple[Path, str]]:
    """Path and checksum of every recorded file."""
    try:
        lines = checksums.read_text(encoding="utf-8").splitlines()
        entries = [(checksums.parent / name, digest) for digest, name in (line.split("  ", 1) for line in lines)]
    except (OSError, ValueError) as error:
        raise UserError(
            f"The model's checksums cannot be read: {error}", where=str(checksums), remedy=_REMEDY
        ) from error
    if not entries:
        raise UserError("The model has no recorded checksums.", where=str(checksums), remedy=_REMEDY)
    return entries
