"""The reference's stored errors: computed once, resumed after a torn write."""

import math

import pytest
import torch

from v2a_dpo.alignment.processes import Processes
from v2a_dpo.alignment.reference import ReferenceErrors
from v2a_dpo.errors import UserError

SIZES = [2, 2, 1]
ALONE = Processes(torch.device("cpu"))


def error_of(batch):
    return torch.arange(2 * SIZES[batch]) + 10.0 * batch


def test_errors_come_back_batch_by_batch_and_are_computed_once(tmp_path):
    path = tmp_path / "reference.f32"
    asked = []
    for _ in range(2):
        reference = ReferenceErrors(path, SIZES)
        reference.complete(lambda batch: asked.append(batch) or error_of(batch), processes=ALONE)
        for batch in range(3):
            assert torch.equal(reference[batch], error_of(batch))
    assert asked == [0, 1, 2]


def test_a_half_written_batch_is_computed_again(tmp_path):
    path = tmp_path / "reference.f32"
    ReferenceErrors(path, SIZES).complete(error_of, processes=ALONE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        asked = []
        reference = ReferenceErrors(path, SIZES)
        reference.complete(lambda batch, asked=asked: asked.append(batch) or error_of(batch), processes=ALONE)
        assert path.read_bytes() == whole
        assert asked == [batch for batch, end in enumerate((16, 32, 40)) if length < end]


def test_a_reference_that_is_not_finite_is_told_before_any_training(tmp_path):
    reference = ReferenceErrors(tmp_path / "reference.f32", SIZES)
    with pytest.raises(UserError, match="not finite"):
        reference.complete(lambda batch: error_of(batch) * (math.nan if batch == 1 else 1.0), processes=ALONE)
