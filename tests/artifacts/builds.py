"""A small data set that counts what is made; as a program, one build that a test can kill.

Arguments of the program: folder, file that collects the names of shards being made, number of shards, version of the
parameters, most bytes a file may have (0: no limit).
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from pathlib import Path

import pyarrow as pa

from v2a_dpo.artifacts.code import NO_CODE, Code
from v2a_dpo.artifacts.schema import TableSchema, TensorType, tensor_field
from v2a_dpo.artifacts.shards import BuildSummary, QuarantinedRow, ShardContent, ShardTask, build_dataset
from v2a_dpo.errors import UserError

LATENT = TensorType("float16", (4, 3))
SCHEMA = TableSchema(
    "candidates",
    1,
    pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("prompt", pa.string()),
            tensor_field("latent", LATENT),
            pa.field(
                "audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]), nullable=False
            ),
        ]
    ),
)


def content(index: int, *, audio_bytes: int = 200) -> ShardContent:
    """Three rows of shard `index`; every second shard has a clip in quarantine."""
    random_bytes = random.Random(index).randbytes
    rows = [
        {
            "clip_id": f"clip-{index}-{row}",
            "prompt": None if row == 1 else "a drum",
            "latent": random_bytes(LATENT.num_bytes),
            "audio": {"bytes": random_bytes(audio_bytes), "path": None},
        }
        for row in range(3)
    ]
    failed = [QuarantinedRow.of(f"clip-{index}-bad", ValueError("no frames"))] if index % 2 else []
    return ShardContent(rows, failed)


class Build:
    """Builds the data set and remembers which shards it had to make."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)
        self.made: list[int] = []

    def __call__(
        self,
        inputs: list[str],
        *,
        only: list[int] | None = None,
        parameters: object = None,
        upstream: str = "u",
        schema: TableSchema = SCHEMA,
        code: Code = NO_CODE,
        keep: bool = False,
    ) -> BuildSummary:
        """A build with one shard for each of `inputs`, the fingerprints of what the shards are made from."""
        self.made = []

        def make(index: int) -> ShardContent:
            self.made.append(index)
            return content(index)

        return build_dataset(
            self.folder,
            schema,
            parameters=parameters or {"steps": 25},
            inputs={"clips": upstream},
            tasks=[ShardTask(index, [value]) for index, value in enumerate(inputs)],
            make=make,
            code=code,
            keep=keep,
            only=only,
        )


def main(folder: str, journal: str, shards: str, version: str, max_file_bytes: str) -> None:
    """One build whose shards take a while, so that a kill finds it at work."""
    if int(max_file_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_file_bytes),) * 2)

    def make(index: int) -> ShardContent:
        with open(journal, "a", encoding="utf-8") as file:
            file.write(f"{index}\n")
            file.flush()
            os.fsync(file.fileno())
        time.sleep(0.02)
        return content(index, audio_bytes=300_000 if index else 10)

    tasks = [ShardTask(index, [str(index)]) for index in range(int(shards))]
    try:
        build_dataset(folder, SCHEMA, parameters=version, inputs={"clips": "u"}, tasks=tasks, code=NO_CODE, make=make)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
