"""Fingerprints: short digests that are equal when inputs, parameters and code are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from os import SEEK_END
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from v2a_dpo.artifacts.location import join, open_input, tree_names
from v2a_dpo.errors import UserError


def fingerprint(*parts: Any) -> str:
    """A 32-digit hexadecimal digest of `parts`: JSON values, paths or pydantic models, in order."""
    text = json.dumps([_plain(part) for part in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def checksum(content: bytes | memoryview) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_checksum(uri: str | Path) -> str:
    """The SHA-256 of the file at `uri` in hexadecimal."""
    return file_digests(uri, "sha256")[0]


def file_digests(
    uri: str | Path, *algorithms: str, progress: Callable[[int], None] = lambda num_bytes: None
) -> list[str]:
    """The digests of the file at `uri` by these algorithms of hashlib, in hexadecimal, in one pass over the file.

    `progress` gets the number of bytes read so far.
    """
    hashes = [hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms]
    num_bytes = 0
    with open_input(uri) as file:
        while block := file.read(1 << 20):
            for item in hashes:
                item.update(block)
            num_bytes += len(block)
            progress(num_bytes)
    return [item.hexdigest() for item in hashes]


def folder_fingerprint(uri: str | Path) -> str:
    """A digest of the names and contents of all files in a model folder and in its folders, hidden files left out.

    Raises UserError when there are none.
    """
    names = tree_names(uri)
    if not names:
        remedy = "Run the stage that makes it first."
        raise UserError("This folder does not exist or is empty.", where=str(uri), remedy=remedy)
    return fingerprint([[name, file_checksum(join(uri, name))] for name in names])


def content_probe(uri: str | Path) -> str:
    """A digest of a media file's size and of its first and last 64 KiB: distinguishes files without reading all."""
    with open_input(uri) as file:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        head = file.read(1 << 16)
        file.seek(max(0, size - (1 << 16)))
        tail = file.read(1 << 16)
    return fingerprint(size, checksum(head), checksum(tail))
