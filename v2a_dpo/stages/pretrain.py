"""Stage of the tiny profile: its frozen scorers and base generator; larger profiles download theirs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from queue import Queue

import torch

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import working_folder
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent
from v2a_dpo.tiny.pretraining import pretrain_generator, train_scorers
from v2a_dpo.tiny.scoring import store_marginal

_SCORERS, _GENERATOR = "Pre-training scorers", "Pre-training the generator"
Reports = Queue[tuple[int, int]]


def pretrain(params: Params, *, output: str, progress: Progress = silent) -> str:
    """Trains `output/scorers` and `output/generator` side by side, one core each; returns a sentence about it.

    A killed run continues: finished scorers are kept, and the generator resumes from its checkpoint with the same
    result (on S3, which keeps only whole results, it starts again).
    """
    made_with = fingerprint(params.seed, params.world.training_clips, params.pretrain)
    # A fresh interpreter for the scorers: forking a process that runs torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with (
        working_folder(output, made_with, code=code_of(pretrain), keep=params.keep_artifacts) as folder,
        context.Manager() as manager,
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        reports: Reports = manager.Queue()
        scorers = pool.submit(_train_scorers, params, folder, reports)

        def report_scorers() -> None:
            while not reports.empty():
                progress(_SCORERS, *reports.get())

        def report(done: int, total: int) -> None:
            progress(_GENERATOR, done, total)
            report_scorers()

        _train_generator(params, folder, report)
        while wait([scorers], timeout=0.5).not_done:
            report_scorers()
        report_scorers()
        scorers.result()
    return f"scorers and generator trained in {output}"


def _train_scorers(params: Params, folder: Path, reports: Reports) -> None:
    torch.set_num_threads(1)
    train_scorers(
        folder / "scorers",
        seed=params.seed,
        num_clips=params.world.training_clips,
        steps=params.pretrain.scorer_steps,
        progress=lambda done, total: reports.put((done, total)),
    )
    store_marginal(folder / "scorers")


def _train_generator(params: Params, folder: Path, report: Callable[[int, int], None]) -> None:
    if (folder / "generator" / "config.json").is_file():
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain_generator(
            folder / "generator",
            params.pretrain,
            seed=params.seed,
            num_clips=params.world.training_clips,
            progress=report,
        )
    finally:
        torch.set_num_threads(threads)
