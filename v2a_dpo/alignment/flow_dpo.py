"""Curriculum Flow-DPO, read top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from v2a_dpo.alignment.batch import PairErrors
from v2a_dpo.alignment.losses import flow_dpo
from v2a_dpo.alignment.metrics import (
    alarms,
    batch_record,
    batches_record,
    check_step_zero,
    stop_if_diverged,
    stop_unless_finite,
)
from v2a_dpo.alignment.pairs_data import AlignmentInputs, PairData, gather_pairs
from v2a_dpo.alignment.processes import Processes
from v2a_dpo.alignment.reference import ReferenceErrors
from v2a_dpo.alignment.run.folder import RunFolder
from v2a_dpo.alignment.run.log import Record
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.alignment.run.record import AlignmentSummary, Identity, settings_of
from v2a_dpo.alignment.schedule import learning_rate, split_pairs, visit_order
from v2a_dpo.alignment.shared_batches import SharedBatches
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.config import AlignConfig, Params
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.models.catalog import velocity_code
from v2a_dpo.progress import Progress, silent


def flow_dpo_identity(params: Params, inputs: AlignmentInputs, *, generator: str, base: str) -> Identity:
    """All that decides on the aligned model; `base` is the fingerprint of the folder `generator`."""
    return Identity(
        settings_of(params.align, seed=params.seed, precision=params.generator.precision),
        {**inputs.fingerprints, "base generator": base},
        code_of(align_by_flow_dpo, gather_pairs, *velocity_code(generator)).functions,
    )


def align_by_flow_dpo(
    model: VideoToAudioModel,
    pairs: PairData,
    config: AlignConfig,
    *,
    seed: int,
    precision: str,
    identity: Identity,
    folder: Path,
    processes: Processes,
    mirror: Mirror | None = None,
    progress: Progress = silent,
    on_record: Callable[[Record], None] = lambda record: None,
) -> AlignmentSummary:
    """Trains `model.network` in place by Flow-DPO (paper Eq. 5, corrected) and returns the run's summary.

    The network stays in evaluation mode: dropout would make policy and reference differ. Parameters that the velocity
    does not depend on, such as latent statistics, get no gradient, so AdamW does not change them. The weights that
    `model` has at the call are the reference. `identity` identifies the run's inputs. Every one of `processes` computes
    its share of each batch's pairs: their number changes only the order in which floating-point numbers are added.
    The main one's `folder` receives `log.jsonl` (one record per step, also given to `on_record`), the reference's
    errors, and checkpoints, from which the run resumes; `mirror` gets them too.
    Raises AlignmentDivergedError when a metric or a weight is not finite, or the winners' error has quadrupled, also
    after the last step: a diverged network is neither returned nor kept in a checkpoint.
    """
    network = model.network.eval().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    errors_of_model = PairErrors(model, precision=precision)

    training, validation = split_pairs(pairs.clip_id, share=config.validation_share, seed=seed)
    order = visit_order(
        pairs.phase, training,
        steps=config.steps, batch_size=config.batch_size, seed=seed, curriculum=config.curriculum,
    )  # fmt: skip
    batches = SharedBatches(pairs, order, validation, seed=seed, processes=processes)
    origin = fingerprint(identity.data, identity.code, seed, precision, processes.device.type, batches.fingerprint)
    files = RunFolder(folder, processes=processes, mirror=mirror, on_record=on_record)

    # The reference comes first: only before its first step is the policy the reference.
    reference = ReferenceErrors(files.fetch(f"reference-{origin}.f32"), batches.sizes)
    reference.complete(lambda index: batches.evaluate(index, errors_of_model), processes=processes, progress=progress)
    files.send(f"reference-{origin}.f32")

    def measure(indices: Sequence[int], prefix: str = "") -> dict[str, float]:
        policy_errors = [batches.evaluate(index, errors_of_model) for index in indices]
        return batches_record(policy_errors, [reference[i] for i in indices], beta=config.beta, prefix=prefix)

    first_step = files.resume(network, optimizer)
    policy = processes.prepare(errors_of_model)

    for step in range(first_step, config.steps):
        record: dict[str, Any] = {"step": step, "phase": order.phase(step)}
        if batches.validation and step % config.validate_every == 0:
            record |= measure(batches.validation, "validation_")

        started = time.perf_counter()
        batch, reference_errors = batches.local_batch(step), reference[step].to(processes.device)
        data_wait_s = time.perf_counter() - started

        rate = optimizer.param_groups[0]["lr"] = learning_rate(
            step, peak=config.learning_rate, warmup_steps=config.warmup_steps
        )
        optimizer.zero_grad(set_to_none=True)
        local_errors = policy(batch)
        flow_dpo(local_errors, batches.local_rows(reference_errors), beta=config.beta).loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip).item()

        policy_errors = batches.gather(local_errors, step)
        if step == 0:
            check_step_zero(policy_errors, reference_errors, precision=precision)
        record |= batch_record(policy_errors, reference_errors, beta=config.beta)
        record |= {"gradient_norm": gradient_norm, "learning_rate": rate, "data_wait_s": data_wait_s}
        record["alarms"] = alarms(record)
        try:
            stop_if_diverged(record, config)
            optimizer.step()
        finally:  # a step that ends the run is in the log too
            record["pairs_per_s"] = config.batch_size / (time.perf_counter() - started)
            files.write(record)

        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            stop_unless_finite(network, step=step + 1, config=config)
            files.checkpoint(step + 1, network, optimizer)
        progress("Aligning", step + 1, config.steps)

    # Without validation pairs, the batch that was trained on last shows the effect of the last step.
    last = measure(batches.validation, "validation_") if batches.validation else measure([config.steps - 1])
    record = {"step": config.steps, **last}
    if batches.validation:
        files.write(record | {"alarms": alarms(record)})
    stop_if_diverged(record, config)
    network.requires_grad_(False)
    return AlignmentSummary.of_log(
        files.records(),
        steps_by_phase=order.steps_by_phase,
        training_pairs=len(training),
        validation_pairs=len(validation),
    )
