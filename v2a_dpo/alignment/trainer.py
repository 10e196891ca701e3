"""Curriculum Flow-DPO, read top to bottom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2a_dpo.alignment.batch import PairBatch, pair_errors
from v2a_dpo.alignment.checkpoint import Position, load_checkpoint, remove_checkpoints, save_checkpoint
from v2a_dpo.alignment.log import Record, TrainingLog, read_log
from v2a_dpo.alignment.losses import flow_dpo
from v2a_dpo.alignment.measures import alarms, batch_record, check_step_zero, held_out_record, stop_if_diverged
from v2a_dpo.alignment.pairs_data import PairData
from v2a_dpo.alignment.reference import ReferenceErrors
from v2a_dpo.alignment.schedule import learning_rate, split_pairs, visit_order
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.config import AlignConfig
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.progress import Progress, silent

LOG = "log.jsonl"

#: At most so many held-out visits are measured at a time, and up to so many of each pair.
_HELD_OUT_VISITS, _VISITS_PER_PAIR = 512, 4


@dataclass(frozen=True)
class AlignmentSummary:
    """What a run did: pairs, steps by phase, held-out measures before and after (None without held-out pairs), alarms by kind."""

    training_pairs: int
    held_out_pairs: int
    steps_by_phase: dict[str, int]
    before: dict[str, float] | None
    after: dict[str, float] | None
    alarms: dict[str, int]

    def __str__(self) -> str:
        phases = ", ".join(f"{steps} {name}" for name, steps in self.steps_by_phase.items())
        text = f"Aligned on {self.training_pairs} pairs in {phases} steps"
        if self.before is not None and self.after is not None:
            before, after = (measures["held_out_accuracy"] for measures in (self.before, self.after))
            text += f"; implicit accuracy on {self.held_out_pairs} held-out pairs {before:.3f} -> {after:.3f}"
        return text + "".join(f"; ALARM: {name} ({count} times)" for name, count in self.alarms.items())


def align_by_flow_dpo(
    model: VideoToAudioModel,
    pairs: PairData,
    config: AlignConfig,
    *,
    seed: int,
    precision: str,
    base: str,
    folder: Path,
    progress: Progress = silent,
    on_record: Callable[[Record], None] = lambda record: None,
) -> AlignmentSummary:
    """Trains `model.network` in place by Flow-DPO (paper Eq. 5, corrected) and returns what happened.

    The network stays in evaluation mode: dropout would make policy and reference differ. Parameters that the velocity
    does not depend on, such as latent statistics, get no gradient, so AdamW leaves them alone. `base` is the fingerprint
    of the weights that `model` comes with; they are the reference. `folder` receives `log.jsonl` (one record a step, also
    given to `on_record`), the reference's errors, and checkpoints, from which a run of the same identity goes on.
    Raises AlignmentDivergedError when loss or gradient are not finite, or the held-out winner error has quadrupled.
    """
    network = model.network.eval().requires_grad_(True)
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    training, held_out = split_pairs(pairs.clip_id, share=config.held_out, seed=seed)
    order = visit_order(
        pairs.phase, training,
        steps=config.steps, batch_size=config.batch_size, seed=seed, curriculum=config.curriculum,
    )  # fmt: skip
    visits = [*zip(order.pair, order.visit, strict=True), *_held_out_visits(held_out, config.batch_size)]
    held_out_batches = range(config.steps, len(visits))
    origin = fingerprint(base, pairs.fingerprint, seed, precision, device.type, _digest(visits))
    identity = fingerprint(origin, config)

    def batch_of(index: int) -> PairBatch:
        return pairs.batch(*visits[index], seed=seed).to(device)

    @torch.no_grad()
    def errors_now(index: int) -> torch.Tensor:
        return pair_errors(model, batch_of(index), precision=precision)

    # The reference comes first: only before its first step is the policy the reference.
    reference = ReferenceErrors(folder / f"reference-{origin}.f32", [len(pair) for pair, _ in visits])
    reference.complete(errors_now, progress=progress)

    def held_out_now() -> dict[str, float]:
        policy_errors = [errors_now(index) for index in held_out_batches]
        return held_out_record(policy_errors, [reference[index] for index in held_out_batches], beta=config.beta)

    position = load_checkpoint(folder, network, optimizer, identity=identity) or _first_position(folder)
    log = TrainingLog(folder / LOG, length=position.log_bytes, on_record=on_record)

    for step in range(position.step, config.steps):
        record: dict[str, Any] = {"step": step, "phase": order.phase(step)}
        if held_out_batches and step % config.validate_every == 0:
            record |= held_out_now()

        started = time.perf_counter()
        batch, reference_errors = batch_of(step), reference[step].to(device)
        data_wait_s = time.perf_counter() - started

        policy_errors = pair_errors(model, batch, precision=precision)
        result = flow_dpo(policy_errors, reference_errors, beta=config.beta)
        if step == 0:
            check_step_zero(policy_errors, reference_errors)
        optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip).item()

        rate = learning_rate(step, peak=config.learning_rate, warmup_steps=config.warmup_steps)
        record |= batch_record(result, policy_errors, reference_errors)
        record |= {"gradient_norm": gradient_norm, "learning_rate": rate, "data_wait_s": data_wait_s}
        record["alarms"] = alarms(record)
        record["pairs_per_s"] = config.batch_size / (time.perf_counter() - started)
        log.write(record)
        stop_if_diverged(record, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            save_checkpoint(folder, Position(step + 1, log.flush()), network, optimizer, identity=identity)
        progress("Aligning", step + 1, config.steps)

    if held_out_batches:
        record = {"step": config.steps, **held_out_now()}
        log.write(record | {"alarms": alarms(record)})
    network.requires_grad_(False)
    return _summary(read_log(folder / LOG), order.steps_by_phase, len(training), len(held_out))


def _first_position(folder: Path) -> Position:
    """The start of a new run, after what another one left in `folder` is deleted."""
    remove_checkpoints(folder)
    (folder / LOG).unlink(missing_ok=True)
    return Position(step=0, log_bytes=0)


def _held_out_visits(held_out: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, list[str]]]:
    """Batches of held-out visits: the same pairs, times and noises at every measurement."""
    pairs = held_out[:_HELD_OUT_VISITS]
    repeats = min(_VISITS_PER_PAIR, _HELD_OUT_VISITS // max(len(pairs), 1))
    rows = np.tile(pairs, repeats)
    names = [f"held out {repeat}" for repeat in range(repeats) for _ in pairs]
    starts = range(0, len(rows), batch_size)
    return [(rows[start : start + batch_size], names[start : start + batch_size]) for start in starts]


def _digest(visits: list[tuple[np.ndarray, Any]]) -> str:
    return fingerprint([[pair.tolist(), [str(number) for number in visit]] for pair, visit in visits])


def _summary(
    records: list[dict[str, Any]], steps_by_phase: dict[str, int], training_pairs: int, held_out_pairs: int
) -> AlignmentSummary:
    measured = [
        {name: value for name, value in record.items() if name.startswith("held_out_")}
        for record in records
        if "held_out_accuracy" in record
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
