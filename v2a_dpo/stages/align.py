"""Stage: the aligned generator from preference pairs, by curriculum Flow-DPO (paper 2.3)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from v2a_dpo.alignment.flow_dpo import AlignmentSummary, align_by_flow_dpo
from v2a_dpo.alignment.inputs import AlignmentInputs
from v2a_dpo.alignment.pairs_data import PairData, gather_pairs, remove_caches
from v2a_dpo.alignment.processes import Processes, check_batch_divides, join_processes
from v2a_dpo.alignment.run.checkpoint import remove_checkpoints
from v2a_dpo.alignment.run.log import LOG, Record
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.alignment.run.record import Run, alignment_identity, begin_run, find_run, finish_run
from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy, new_folder
from v2a_dpo.artifacts.location import is_remote, local_path
from v2a_dpo.config import Params
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent


def align(
    params: Params,
    *,
    pairs: str,
    candidates: list[str],
    conditions: list[str],
    generator: str,
    output: str,
    log: str,
    start_anew: bool = False,
    progress: Progress = silent,
    on_record: Callable[[Record], None] = lambda record: None,
) -> AlignmentSummary:
    """Aligns the `generator` to the `pairs` and writes it to `output`; a stopped run goes on where its checkpoint is.

    A run there that differs in what decides on the weights is refused; with `start_anew` it is moved aside.

    `candidates` and `conditions` are the folders that hold the pairs' clips. `log` is a folder for the training log, the
    summary, and while it runs the checkpoints; for a remote one the work lies in a scratch folder under the temporary
    directory and is mirrored to it, so that another machine goes on. Processes started by `torchrun` or `accelerate
    launch` share the batches; only the main one shows progress and calls `on_record`. A finished run is not done again.
    """
    processes = join_processes(params.generator.device)
    check_batch_divides(params.align.batch_size, processes)
    inputs = AlignmentInputs.open(pairs, candidates, conditions)
    told = ""
    if processes.is_main:  # one process reads the whole model for its fingerprint and says what there is to do
        identity = alignment_identity(params, inputs, generator=generator, base=folder_fingerprint(generator))
        found = find_run(log, output, identity=identity, keep_code=params.keep_artifacts, start_anew=start_anew)
        told = (found or begin_run(log, output, identity=identity)).to_text()
    run = Run.from_text(processes.broadcast_bytes(told.encode()).decode())
    if run.summary is not None:
        processes.close()
        return run.summary

    folder = _scratch(log, run.identity.digest) if is_remote(log) else local_path(log)
    folder.mkdir(parents=True, exist_ok=True)
    with local_copy(generator) as files:
        model = load_generator(files, device=str(processes.device))
    inputs.check_duration(model, params.prepare.duration_s)
    data_of_pairs = _gather_by_turns(processes, lambda: gather_pairs(inputs, folder=folder, progress=progress), log=log)
    with Mirror(folder, log) if is_remote(log) and processes.is_main else nullcontext() as mirror:
        summary = align_by_flow_dpo(
            model,
            data_of_pairs,
            params.align,
            seed=params.seed,
            precision=params.generator.precision,
            identity=run.identity,
            folder=folder,
            processes=processes,
            mirror=mirror,
            progress=progress if processes.is_main else silent,
            on_record=on_record,
        )
        if processes.is_main:
            with new_folder(output) as target:
                model.save(target)
                record_checksums(target)
            if mirror is not None:
                mirror.send(LOG)
            summary = finish_run(summary, log, output)
            if mirror is not None:
                mirror.remove_checkpoints()
    processes.barrier()
    if is_remote(log) and processes.is_first_on_node:
        shutil.rmtree(folder)
    elif processes.is_main:
        remove_checkpoints(folder)
        remove_caches(folder)
    processes.close()
    return summary


def _scratch(log: str, identity: str) -> Path:
    """Where this machine works for a remote `log`: the same folder at every start of a run, so that a restart there loses nothing."""
    return Path(tempfile.gettempdir()) / f"v2a-dpo-{os.getuid()}" / fingerprint(log, identity)


def _gather_by_turns(processes: Processes, gather: Callable[[], PairData], *, log: str) -> PairData:
    """The gathered pairs: one process of a node gathers, the others map what it left.

    Nodes that share a mounted folder take turns as well: the main process gathers, and the others find it done.
    """
    first = processes.is_main or (processes.is_first_on_node and is_remote(log))
    own_turn = 0 if first else 1 if processes.is_first_on_node else 2
    for turn in range(3):
        if turn == own_turn:
            pairs = gather()
        processes.barrier()
    return pairs
