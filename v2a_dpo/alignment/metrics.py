"""The training log's metrics of a batch of pairs, the alarms, and the checks that stop a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from v2a_dpo.alignment.losses import absolute_quantile, flow_dpo
from v2a_dpo.alignment.run.log import Record
from v2a_dpo.config import AlignConfig
from v2a_dpo.errors import UserError

#: Alarms, as the log names them: |z| > 10 for a tenth of a batch; validation winner error 1.5 times the reference's.
SATURATED, WINNER_FORGOTTEN = "sigmoid saturated", "winner error grew by half"
_SATURATION, _GROWTH_ALARM, _GROWTH_STOP = 10.0, 1.5, 4.0

#: How far the policy's first errors may be from the reference's, relatively: kernels with and without gradients may
#: round apart. Rounding to bfloat16 moves the error of a large model by 3e-4 (standard deviation), the largest of a
#: batch more.
_STEP_ZERO_TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2}


class AlignmentDivergedError(UserError):
    """The run diverged; the message names the step, the reason and the settings to change."""

    def __init__(self, what: str, *, step: int, config: AlignConfig) -> None:
        super().__init__(
            f"The alignment diverged at step {step}: {what}.",
            where=f"align (learning_rate {config.learning_rate:g}, beta {config.beta:g})",
            remedy="Lower align.learning_rate first (a third is a good next try); with it unchanged, raise align.beta. "
            "Begin anew with --start-anew.",
        )


def batch_record(policy_2B: Tensor, reference_2B: Tensor, *, beta: float) -> dict[str, float]:
    """The metrics of one batch: loss, implicit accuracy, margin z, and the errors of policy and reference.

    A difference is policy minus reference. DPO may let both errors grow while the accuracy rises, so both are logged.
    """
    result = flow_dpo(policy_2B, reference_2B, beta=beta)
    winner, loser = policy_2B.detach().chunk(2)
    winner_reference, loser_reference = reference_2B.chunk(2)
    return {
        "loss": result.loss.item(),
        "implicit_accuracy": result.implicit_accuracy,
        "margin": result.z.mean().item(),
        "margin_abs_p90": absolute_quantile(result.z, 0.9),
        "winner_difference": result.winner_difference.mean().item(),
        "loser_difference": result.loser_difference.mean().item(),
        "winner_error": winner.mean().item(),
        "loser_error": loser.mean().item(),
        "winner_error_reference": winner_reference.mean().item(),
        "loser_error_reference": loser_reference.mean().item(),
    }


def batches_record(
    policy: Sequence[Tensor], reference: Sequence[Tensor], *, beta: float, prefix: str = ""
) -> dict[str, float]:
    """`batch_record` over several batches of errors `[2B]`, with `prefix` before each name."""
    record = batch_record(winners_first(policy), winners_first(reference), beta=beta)
    return {f"{prefix}{name}": value for name, value in record.items()}


def winners_first(batches: Sequence[Tensor]) -> Tensor:
    """The errors of several batches as those of one, on the CPU: all winners, then all losers."""
    halves = [batch.cpu().chunk(2) for batch in batches]
    return torch.cat([*(winners for winners, _ in halves), *(losers for _, losers in halves)])


def alarms(record: Record) -> list[str]:
    """The names of a record's alarms."""
    names = [SATURATED] if record.get("margin_abs_p90", 0.0) > _SATURATION else []
    error, reference = (record.get(f"validation_winner_error{suffix}", 0.0) for suffix in ("", "_reference"))
    return [*names, WINNER_FORGOTTEN] if error > _GROWTH_ALARM * reference else names


def stop_if_diverged(record: Record, config: AlignConfig) -> None:
    """Raises AlignmentDivergedError when a number is not finite, or the winners' error is over 4 times the reference's.

    The winners are those of validation, and those of the batch, so that a run without validation pairs is checked too.
    """
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            what = f"the {name.replace('_', ' ')} is {value}"
            raise AlignmentDivergedError(what, step=record["step"], config=config)
    for name, winners in (("winner_error", "the batch's winners"), ("validation_winner_error", "validation winners")):
        growth = record[name] / record[f"{name}_reference"] if name in record else 0.0
        if growth > _GROWTH_STOP:
            what = f"the error on {winners} is {growth:.1f} times the reference's"
            raise AlignmentDivergedError(what, step=record["step"], config=config)


def stop_unless_finite(network: nn.Module, *, step: int, config: AlignConfig) -> None:
    """Raises AlignmentDivergedError when a weight of `network` is not finite after `step` steps."""
    for name, weights in network.named_parameters():
        if not torch.isfinite(weights).all():
            raise AlignmentDivergedError(f"weights of {name} are not finite", step=step, config=config)


def check_step_zero(policy_2B: Tensor, reference_2B: Tensor, *, precision: str) -> None:
    """Before the first step the policy is the reference: z = 0, loss = ln 2. Raises RuntimeError when they are further
    apart than rounding of `precision` explains."""
    apart = ((policy_2B.detach() - reference_2B).abs() / reference_2B.abs().clamp_min(1e-12)).max().item()
    if not apart <= _STEP_ZERO_TOLERANCE[precision]:  # a policy that is not finite is not the reference either
        raise RuntimeError(
            f"policy and reference differ by {apart:.2g} before the first step: dropout, precision, or other weights"
        )
