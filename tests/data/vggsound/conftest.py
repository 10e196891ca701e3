"""A made-up list of VGGSound's form: ids as YouTube makes them, some videos with two clips, some labels with commas."""

from __future__ import annotations

import csv
import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

LABELS = ("people marching", "child speech, kid speaking", "dog barking")


def video_id(number: int) -> str:
    return urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()[:9]).decode()[:11].ljust(11, "_")


@pytest.fixture(scope="session")
def lines() -> list[list[str]]:
    """900 training clips, every ninth the second clip of a video, and 100 test clips."""
    rows = [[video_id(n - 1 if n % 9 == 8 else n), str(30 * (n % 9)), LABELS[n % 3], "train"] for n in range(900)]
    return rows + [[video_id(n), "7", LABELS[n % 3], "test"] for n in range(1000, 1100)]


@pytest.fixture
def listing(tmp_path: Path, lines: list[list[str]]) -> Path:
    path = tmp_path / "vggsound.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path
