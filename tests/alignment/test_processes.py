"""One run shared by two processes: the one-process result up to rounding, and the same bytes after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.alignment.launch import PARAMS, assert_same_up_to_rounding, finish, start, timeless
from v2a_dpo.alignment.processes import Processes, check_batch_divides, join_processes
from v2a_dpo.errors import UserError
from v2a_dpo.stages.align import align

pytestmark = pytest.mark.slow


class OneOf(Processes):
    """The process of that `rank` among `world_size`, without the others."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.world_size = rank, world_size


@pytest.fixture(scope="module")
def alone(problem):
    align(PARAMS, **problem.arguments("alone"))
    return problem.root / "alone"


@pytest.fixture(scope="module")
def together(problem):
    assert finish(start(problem.arguments("together"), processes=2)) == [0, 0]
    return problem.root / "together"


def test_two_processes_give_the_log_of_one_up_to_rounding(alone, together):
    assert_same_up_to_rounding(*(run / "alignment" / "log.jsonl" for run in (alone, together)))


def test_two_processes_start_exactly_at_the_reference(together):
    first = timeless(together / "alignment" / "log.jsonl")[0]
    assert (first["margin"], first["margin_abs_p90"], first["validation_margin"]) == (0.0, 0.0, 0.0)


def test_two_processes_give_the_weights_and_reference_errors_of_one_up_to_rounding(problem, alone, together):
    base = load_file(problem.root / "generator" / "model.safetensors")
    expected, found = (load_file(run / "aligned" / "model.safetensors") for run in (alone, together))
    moved = max((expected[name] - base[name]).abs().max().item() for name in base)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0.02 * moved)
        assert torch.equal(tensor, base[name]) == torch.equal(found[name], base[name])
    errors = [np.fromfile(next((run / "alignment").glob("*.f32")), dtype="<f4") for run in (alone, together)]
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-5)


def test_a_killed_run_of_two_processes_resumes_to_the_same_bytes_from_the_command_line(problem, together, tmp_path):
    arguments = problem.arguments("killed together")
    codes = finish(start(arguments, processes=2, kill_at=10))
    assert codes[0] == -signal.SIGKILL
    assert codes[1] not in (0, None), "the other process must notice and end"
    folder = Path(arguments["log"])
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-00000008.pt"]

    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(PARAMS.model_dump(mode="json")))
    options = [
        f"--{name}={item}"
        for name, value in arguments.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*launcher, "-m", "--", "v2a_dpo.cli", "align", "--no-live", f"--params={params}", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Aligned on 20 pairs") == 1
    run = problem.root / "killed together"
    name = "aligned/model.safetensors"
    assert (run / name).read_bytes() == (together / name).read_bytes()
    assert timeless(folder / "log.jsonl") == timeless(together / "alignment" / "log.jsonl")
    assert sorted(path.suffix for path in folder.iterdir()) == [".f32", ".json", ".json", ".jsonl"]


@pytest.mark.parametrize("rows", [0, 1, 4, 7])
def test_every_row_is_in_the_local_slice_of_exactly_one_process(rows):
    shares = [list(range(rows))[OneOf(rank, 3).local_slice(rows)] for rank in range(3)]
    assert [row for share in shares for row in share] == list(range(rows))


def test_a_batch_that_cannot_be_shared_equally_is_a_mistake_of_the_user():
    check_batch_divides(4, OneOf(0, 2))
    with pytest.raises(UserError, match="A batch of 4 pairs cannot be shared equally by 3 processes") as caught:
        check_batch_divides(4, OneOf(0, 3))
    assert caught.value.where == "align.batch_size"


def test_several_processes_cannot_share_a_numbered_device(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="Several processes cannot share"):
        join_processes("cpu:0")
