"""The stage `generate` on several GPUs of a box: one process per GPU, each on its own shards."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeAlias

import torch
from torch import multiprocessing

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.shards import BuildSummary
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.generate import generate

#: Shards finished and shards made since the last report, or a mistake of the user.
_Report: TypeAlias = tuple[int, int] | UserError


def generate_on_devices(
    params: Params, *, devices: int, conditions: str, output: str, progress: Progress = silent, **options: Any
) -> BuildSummary:
    """Does what `generate` does, with the shards divided among `devices` processes; returns the summary of all.

    Process i works on GPU i, or, without GPUs, on its part of the cores. `options` are those of `generate` except
    `shards`. A UserError in one process is raised when all have ended, any other error at once as torch's
    ProcessRaisedException with that process's traceback. The next call keeps finished shards.
    """
    count = len(Dataset.open(conditions, "conditions").shards)
    parts = [part for first in range(devices) if (part := list(range(first, count, devices)))]
    call = {"conditions": conditions, "output": output, **options}
    reports: SimpleQueue[_Report] = multiprocessing.get_context("spawn").SimpleQueue()
    running = multiprocessing.spawn(_generate_part, (params, parts, call, reports), nprocs=len(parts), join=False)
    done = made = 0
    mistakes: list[UserError] = []
    ended = False
    while not ended:
        ended = running.join(timeout=0.2)
        while not reports.empty():
            report = reports.get()
            if isinstance(report, UserError):
                mistakes.append(report)
            else:
                done, made = done + report[0], made + report[1]
                progress("Generating", min(done, count), count)
    if mistakes:
        raise mistakes[0]
    # This call finds the finished shards and writes the manifest.
    whole = generate(params, **call)
    return replace(whole, made=made + whole.made, kept=whole.kept - made)


def _generate_part(
    process: int, params: Params, parts: list[list[int]], call: dict[str, Any], reports: SimpleQueue[_Report]
) -> None:
    if torch.cuda.is_available():
        generator = params.generator.model_copy(update={"device": f"cuda:{process}"})
        params = params.model_copy(update={"generator": generator})
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(parts)))
    try:
        summary = generate(params, **call, shards=parts[process], progress=lambda *_: reports.put((1, 0)))
        reports.put((0, summary.made))
    except UserError as mistake:
        reports.put(mistake)
