"""Alarms, the divergence stop, and the check of step zero."""

import math
import time

import pytest
import torch

from v2a_dpo.alignment.metrics import (
    AlignmentDivergedError,
    alarms,
    batch_record,
    batches_record,
    check_step_zero,
    stop_if_diverged,
)
from v2a_dpo.alignment.run.log import TrainingLog, read_log
from v2a_dpo.config import AlignConfig

CONFIG = AlignConfig()
FINE = {"step": 7, "loss": 0.5, "gradient_norm": 80.0, "margin_abs_p90": 3.0}


def test_a_record_has_the_metrics_of_policy_and_reference():
    policy, reference = torch.tensor([0.5, 0.7, 0.9, 0.8]), torch.tensor([0.6, 0.6, 0.6, 0.6])
    record = batch_record(policy, reference, beta=20.0)
    expected = {
        "implicit_accuracy": 1.0, "margin": (4.0 + 1.0) / 2, "margin_abs_p90": 3.7,
        "winner_difference": 0.0, "loser_difference": 0.25,
        "winner_error": 0.6, "loser_error": 0.85, "winner_error_reference": 0.6, "loser_error_reference": 0.6,
        "loss": (math.log1p(math.exp(-4)) + math.log1p(math.exp(-1))) / 2,
    }  # fmt: skip
    assert record == pytest.approx(expected, abs=1e-6)


def test_the_metrics_of_several_batches_do_not_depend_on_how_pairs_are_batched():
    policy, reference = torch.rand(12), torch.rand(12)
    rows = [[0, 1, 2, 6, 7, 8], [3, 4, 9, 10], [5, 11]]
    split = batches_record([policy[r] for r in rows], [reference[r] for r in rows], beta=5.0)
    assert split == pytest.approx(batches_record([policy], [reference], beta=5.0))


def test_alarms_ring_for_a_saturated_sigmoid_and_a_forgotten_winner():
    assert alarms(FINE) == []
    assert alarms(FINE | {"margin_abs_p90": 10.5}) == ["sigmoid saturated"]
    validation = {"validation_winner_error": 0.91, "validation_winner_error_reference": 0.6}
    assert alarms(FINE | validation) == ["winner error grew by half"]
    assert alarms(FINE | validation | {"validation_winner_error": 0.89}) == []


@pytest.mark.parametrize("change", [
    {"loss": math.nan}, {"gradient_norm": math.inf}, {"validation_loss": math.nan},
    {"validation_loss": 0.0, "validation_loser_error": math.inf},
    {"validation_winner_error": 4.1, "validation_winner_error_reference": 1.0},
    {"winner_error": 4.1, "winner_error_reference": 1.0},
])  # fmt: skip
def test_a_diverged_run_is_stopped_with_advice(change):
    stop_if_diverged(FINE | {"validation_winner_error": 3.9, "validation_winner_error_reference": 1.0}, CONFIG)
    with pytest.raises(AlignmentDivergedError, match=r"step 7.*align.learning_rate"):
        stop_if_diverged(FINE | change, CONFIG)


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 5e-4), ("bfloat16", 5e-3)])
def test_a_policy_that_is_not_the_reference_at_step_zero_is_our_mistake(precision, rounding):
    reference = torch.tensor([0.5, 0.8])
    check_step_zero(reference * (1 + rounding), reference, precision=precision)
    for factor in (1 + 4 * rounding, math.nan):
        with pytest.raises(RuntimeError, match="dropout"):
            check_step_zero(reference * torch.tensor([1.0, factor]), reference, precision=precision)


def test_a_log_goes_on_from_the_length_given_and_writes_null_for_what_is_not_finite(tmp_path):
    seen = []
    before = int(time.time() * 1000)
    log = TrainingLog(tmp_path / "log.jsonl", length=0, on_record=seen.append)
    log.write({"step": 0, "loss": 0.7})
    length = log.flush()
    log.write({"step": 1, "loss": 0.6})
    resumed = TrainingLog(tmp_path / "log.jsonl", length=length, on_record=seen.append)
    resumed.write({"step": 1, "loss": math.nan, "alarms": []})
    first, second = read_log(tmp_path / "log.jsonl")
    started, ended = first.pop("time_ms"), second.pop("time_ms")
    assert before <= started <= ended <= time.time() * 1000
    assert [first, second] == [{"step": 0, "loss": 0.7}, {"step": 1, "loss": None, "alarms": []}]
    assert [record["step"] for record in seen] == [0, 1, 1]
