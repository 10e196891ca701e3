"""Curriculum Flow-DPO, read top to bottom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from v2a_dpo.alignment.batch import PairErrors
from v2a_dpo.alignment.losses import flow_dpo
from v2a_dpo.alignment.metrics import (
    alarms,
    batch_record,
    check_step_zero,
    held_out_record,
    stop_if_diverged,
    stop_unless_finite,
)
from v2a_dpo.alignment.pairs_data import PairData
from v2a_dpo.alignment.processes import Processes
from v2a_dpo.alignment.reference import ReferenceErrors
from v2a_dpo.alignment.run.folder import RunFolder
from v2a_dpo.alignment.run.identity import Identity
from v2a_dpo.alignment.run.log import Record
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.alignment.schedule import learning_rate, split_pairs, visit_order
from v2a_dpo.alignment.shared_batches import SharedBatches
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.config import AlignConfig
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.progress import Progress, silent


@dataclass(frozen=True)
class AlignmentSummary:
    """What a run did: pairs, steps by phase, held-out measures before and after (None without held-out pairs), alarms
    by kind.

    `kept_changes` are the definitions in the code that changed since it began, in spite of which it was kept.
    """

    training_pairs: int
    held_out_pairs: int
    steps_by_phase: dict[str, int]
    before: dict[str, float] | None
    after: dict[str, float] | None
    alarms: dict[str, int]
    kept_changes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        phases = ", ".join(f"{steps} {name}" for name, steps in self.steps_by_phase.items())
        text = f"Aligned on {self.training_pairs} pairs in {phases} steps"
        if self.before is not None and self.after is not None:
            before, after = (measures["held_out_implicit_accuracy"] for measures in (self.before, self.after))
            text += f"; implicit accuracy on {self.held_out_pairs} held-out pairs {before:.3f} -> {after:.3f}"
        text += "".join(f"; ALARM: {name} ({count} times)" for name, count in self.alarms.items())
        return text + (f"; kept from before a change of {', '.join(self.kept_changes)}" if self.kept_changes else "")


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
    """Trains `model.network` in place by Flow-DPO (paper Eq. 5, corrected) and returns what happened.

    The network stays in evaluation mode: dropout would make policy and reference differ. Parameters that the velocity
    does not depend on, such as latent statistics, get no gradient, so AdamW leaves them alone. The weights that `model`
    comes with are the reference. `identity` is what the run was started from. Every one of `processes` computes its
    share of each batch's pairs, so that their number changes nothing but the order in which floating-point numbers are
    added. The main one's `folder` receives `log.jsonl` (one record a step, also given to `on_record`), the reference's
    errors, and checkpoints, from which the run goes on; `mirror` gets them too.
    Raises AlignmentDivergedError when a measure or a weight is not finite, or the winners' error has quadrupled, also
    after the last step: what diverged is never returned, nor kept in a checkpoint.
    """
    network = model.network.eval().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    errors_of_model = PairErrors(model, precision=precision)

    training, held_out = split_pairs(pairs.clip_id, share=config.held_out, seed=seed)
    order = visit_order(
        pairs.phase, training,
        steps=config.steps, batch_size=config.batch_size, seed=seed, curriculum=config.curriculum,
    )  # fmt: skip
    batches = SharedBatches(pairs, order, held_out, seed=seed, processes=processes)
    of_reference = (seed, precision, processes.device.type, batches.fingerprint)
    origin = fingerprint(identity.data, identity.code, *of_reference)
    files = RunFolder(folder, processes=processes, mirror=mirror, on_record=on_record)

    # The reference comes first: only before its first step is the policy the reference.
    reference = ReferenceErrors(files.fetch(f"reference-{origin}.f32"), batches.sizes)
    reference.complete(lambda index: batches.evaluate(index, errors_of_model), processes=processes, progress=progress)
    files.send(f"reference-{origin}.f32")

    measurement = _Measurement(batches, reference, errors_of_model, config)
    first_step = files.resume(network, optimizer)
    policy = processes.prepare(errors_of_model)

    for step in range(first_step, config.steps):
        record: dict[str, Any] = {"step": step, "phase": order.phase(step)}
        if batches.held_out and step % config.validate_every == 0:
            record |= measurement.held_out()

        started = time.perf_counter()
        batch, reference_errors = batches.local_batch(step), reference[step].to(processes.device)
        data_wait_s = time.perf_counter() - started

        optimizer.zero_grad(set_to_none=True)
        local_errors = policy(batch)
        flow_dpo(local_errors, batches.local_rows(reference_errors), beta=config.beta).loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip).item()

        policy_errors = batches.gather(local_errors, step)
        if step == 0:
            check_step_zero(policy_errors, reference_errors, precision=precision)
        rate = learning_rate(step, peak=config.learning_rate, warmup_steps=config.warmup_steps)
        record |= batch_record(
            flow_dpo(policy_errors, reference_errors, beta=config.beta), policy_errors, reference_errors
        )
        record |= {"gradient_norm": gradient_norm, "learning_rate": rate, "data_wait_s": data_wait_s}
        record["alarms"] = alarms(record)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            stop_if_diverged(record, config)
            optimizer.step()
        finally:  # the log tells of a step that ends the run, too
            record["pairs_per_s"] = config.batch_size / (time.perf_counter() - started)
            files.write(record)

        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            stop_unless_finite(network, step=step + 1, config=config)
            files.checkpoint(step + 1, network, optimizer)
        progress("Aligning", step + 1, config.steps)

    record = {"step": config.steps, **measurement.last()}
    if batches.held_out:
        files.write(record | {"alarms": alarms(record)})
    stop_if_diverged(record, config)
    network.requires_grad_(False)
    return _summary(files.records(), order.steps_by_phase, len(training), len(held_out))


@dataclass(frozen=True)
class _Measurement:
    """The policy as it is, beside the reference, without training."""

    batches: SharedBatches
    reference: ReferenceErrors
    errors_of_model: PairErrors
    config: AlignConfig

    def held_out(self) -> dict[str, float]:
        """The measures of all held-out batches."""
        policy = [self.batches.evaluate(index, self.errors_of_model) for index in self.batches.held_out]
        reference = [self.reference[index] for index in self.batches.held_out]
        return held_out_record(policy, reference, beta=self.config.beta)

    def last(self) -> dict[str, float]:
        """What judges the last step: the held-out pairs or, without any, the batch that was trained on last."""
        if self.batches.held_out:
            return self.held_out()
        index = self.config.steps - 1
        policy, reference = self.batches.evaluate(index, self.errors_of_model).cpu(), self.reference[index]
        return batch_record(flow_dpo(policy, reference, beta=self.config.beta), policy, reference)


def _summary(
    records: list[dict[str, Any]], steps_by_phase: dict[str, int], training_pairs: int, held_out_pairs: int
) -> AlignmentSummary:
    measured = [
        {name: value for name, value in record.items() if name.startswith("held_out_")}
        for record in records
        if "held_out_implicit_accuracy" in record
    ]
    counts = Counter(alarm for record in records for alarm in record["alarms"])
    return AlignmentSummary(
        training_pairs=training_pairs,
        held_out_pairs=held_out_pairs,
        steps_by_phase=steps_by_phase,
        before=measured[0] if measured else None,
        after=measured[-1] if measured else None,
        alarms=dict(sorted(counts.items())),
    )
