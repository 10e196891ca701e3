"""Checksums of large files, in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 4 << 20
MIB = 1 << 20


@dataclass(frozen=True)
class Digests:
    """MD5 (what upstream publishes) and SHA-256 (what is recorded), in hexadecimal."""

    md5: str
    sha256: str


def digests(path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Digests:
    """Both checksums of the file at `path`; `progress` gets MiB done and in total."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    total = -(-path.stat().st_size // MIB)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
            done += len(block)
            progress(min(total, -(-done // MIB)), total)
    return Digests(md5.hexdigest(), sha256.hexdigest())
