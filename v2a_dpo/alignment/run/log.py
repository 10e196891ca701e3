"""The training log: JSON Lines, one record per step; a resumed run continues it without gaps or duplicates."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.location import read_bytes, reported

Record = Mapping[str, Any]

#: Files in a run's folder: the log; the run's identity; the summary of a finished run; its MLflow run.
LOG, RUN, SUMMARY, TARGET = "log.jsonl", "run.json", "summary.json", "tracking.json"


class TrainingLog:
    """A log file that is cut to a given length and continued; every record also goes to `on_record`.

    Each record gets `time_ms`, the time of writing in milliseconds since 1970.
    """

    def __init__(self, path: Path, *, length: int, on_record: Callable[[Record], None]) -> None:
        self._path = path
        self._on_record = on_record
        path.touch()
        with path.open("r+b") as file:
            file.truncate(length)

    def write(self, record: Record) -> None:
        """Appends a record; a number that is not finite becomes null. Raises UserError when the disk is full."""
        plain = {name: _finite(value) for name, value in record.items()} | {"time_ms": int(time.time() * 1000)}
        with reported("written", self._path), self._path.open("ab") as file:
            file.write((json.dumps(plain, allow_nan=False) + "\n").encode())
        self._on_record(plain)

    def flush(self) -> int:
        """Flushes the file to the disk and returns its length in bytes."""
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())
        return self._path.stat().st_size


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_log(uri: str | Path) -> list[dict[str, Any]]:
    """The records of the log at `uri`, in order. Raises UserError when it is missing."""
    return parse_log(read_bytes(uri))


def parse_log(content: bytes) -> list[dict[str, Any]]:
    """The records of a log's content, in order."""
    return [json.loads(line) for line in content.decode().splitlines()]
