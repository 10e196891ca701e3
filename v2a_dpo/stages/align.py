"""Stage: the aligned generator from preference pairs, by curriculum Flow-DPO (paper 2.3)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack

from v2a_dpo.alignment.flow_dpo import align_by_flow_dpo, flow_dpo_identity
from v2a_dpo.alignment.pairs_data import AlignmentInputs, gather_pairs, remove_caches
from v2a_dpo.alignment.processes import check_batch_divides, join_processes
from v2a_dpo.alignment.run.checkpoint import remove_checkpoints
from v2a_dpo.alignment.run.curves import live_curves
from v2a_dpo.alignment.run.folder import work_folder
from v2a_dpo.alignment.run.log import LOG, Record
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.alignment.run.record import AlignmentSummary, Run, finish_run
from v2a_dpo.alignment.run.start import begin_run, find_run
from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy, new_folder
from v2a_dpo.artifacts.location import is_remote
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
    live: bool = False,
    interval_s: float = 5.0,
    on_record: Callable[[Record], None] = lambda record: None,
    progress: Progress = silent,
) -> AlignmentSummary:
    """Aligns the `generator` to the `pairs` and writes it to `output`; a stopped run continues from its checkpoint.

    An earlier run in `output` or `log` whose weights would differ is refused; with `start_anew` it is moved aside.

    `candidates` and `conditions` are the folders that hold the pairs' clips. `log` is a folder for the training log,
    the summary, and during training the checkpoints; for a remote one the files are in a scratch folder under the
    temporary directory and are mirrored to it, so that another machine can continue. With `live` the records go to
    MLflow every `interval_s` seconds; `on_record` receives each of them. Processes started by `torchrun` or `accelerate
    launch` share the batches; only the main one reports progress and records. A finished run is not repeated.
    """
    processes = join_processes(params.generator.device)
    check_batch_divides(params.align.batch_size, processes)
    inputs = AlignmentInputs.open(pairs, candidates, conditions)

    def find_or_begin_run() -> Run:
        identity = flow_dpo_identity(params, inputs, generator=generator, base=folder_fingerprint(generator))
        existing = find_run(log, output, identity=identity, keep_code=params.keep_artifacts, start_anew=start_anew)
        return existing or begin_run(log, output, identity=identity)

    run = processes.broadcast_result(find_or_begin_run)  # one process reads the whole model
    if run.summary is not None:
        processes.close()
        return run.summary

    folder = work_folder(log, identity=run.identity.digest)
    with local_copy(generator) as files:
        model = load_generator(files, device=str(processes.device))
    inputs.check_duration(model, params.prepare.duration_s)
    pair_data = processes.in_turns(
        lambda: gather_pairs(inputs, folder=folder, progress=progress), shared_disk=not is_remote(log)
    )
    with ExitStack() as stack:
        receivers = [on_record]
        if live and processes.is_main:
            receivers.append(stack.enter_context(live_curves(params, log, folder / LOG, interval_s=interval_s)))

        def receive(record: Record) -> None:
            for receiver in receivers:
                receiver(record)

        mirror = stack.enter_context(Mirror(folder, log)) if is_remote(log) and processes.is_main else None
        summary = align_by_flow_dpo(
            model,
            pair_data,
            params.align,
            seed=params.seed,
            precision=params.generator.precision,
            identity=run.identity,
            folder=folder,
            processes=processes,
            mirror=mirror,
            progress=progress if processes.is_main else silent,
            on_record=receive,
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
