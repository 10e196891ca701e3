"""Alignments in processes of their own, as a launcher would start them, and killed at a given step."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from tests import forked
from tests.alignment.conftest import DURATION_S
from v2a_dpo.alignment.run.log import read_log
from v2a_dpo.config import Params
from v2a_dpo.stages.align import align

SETTINGS = {
    "beta": 100, "learning_rate": 5e-5, "steps": 14, "batch_size": 4, "warmup_steps": 4, "validation_share": 0.15,
    "validate_every": 5, "checkpoint_every": 4,
}  # fmt: skip
PARAMS = Params(generator={"family": "tiny", "device": "cpu"}, prepare={"duration_s": DURATION_S}, align=SETTINGS)
#: Wall-clock figures, the only thing in a log that a second run does not repeat.
CLOCK = ("data_wait_s", "pairs_per_s", "time_ms")


def in_a_process(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process, started, that calls `function`; what takes seconds to import is imported once for all of them.

    Its environment is that of the first call: `function` must be given what it needs of today's.
    """
    process = forked.CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def start(
    arguments: Mapping[str, object],
    *,
    processes: int = 1,
    kill_at: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[BaseProcess]:
    """The processes of one alignment, started; the main one kills itself when it logs the step `kill_at`."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    started = []
    for rank in range(processes):
        own = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
        job = json.dumps([dict(arguments), {**os.environ, **(environment or {}), **own}, kill_at])
        started.append(in_a_process(_align, job))
    return started


def finish(started: list[BaseProcess]) -> list[int | None]:
    """The exit codes of the processes, which end within five minutes."""
    for process in started:
        process.join(timeout=300)
    return [process.exitcode for process in started]


def _align(job: str) -> None:
    arguments, environment, kill_at = json.loads(job)
    os.environ.update(environment)
    torch.set_num_threads(1)

    def killed(record):
        if record["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    align(PARAMS, **arguments, on_record=killed)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def timeless(log: Path) -> list[dict[str, object]]:
    """The records of a log without the wall clock."""
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in read_log(log)]


def assert_same_up_to_rounding(expected: Path, found: Path) -> None:
    """The same records in both logs, but for the order in which sums were added up."""
    one, other = timeless(expected), timeless(found)
    assert len(one) == len(other)
    for record, candidate in zip(one, other, strict=True):
        assert record.keys() == candidate.keys()
        for name, value in record.items():
            wanted = pytest.approx(value, rel=2e-3, abs=2e-5) if isinstance(value, float) else value
            assert candidate[name] == wanted, (record["step"], name)
