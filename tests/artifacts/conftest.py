"""The bytes of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def folder_bytes() -> Callable[[Path], dict[str, bytes]]:
    return lambda folder: {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
