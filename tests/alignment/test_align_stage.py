"""The alignment stage on a real small generator: it learns, it is exact, and it survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from v2a_dpo.alignment.log import read_log
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.report.training import training_section
from v2a_dpo.stages.align import align

SETTINGS = {
    "beta": 100, "learning_rate": 5e-5, "steps": 14, "batch_size": 3, "warmup_steps": 4, "held_out": 0.15,
    "validate_every": 5, "checkpoint_every": 4,
}  # fmt: skip
PARAMS = Params(generator={"family": "tiny", "device": "cpu"}, align=SETTINGS)
#: Wall-clock figures, the only thing in a log that a second run does not repeat.
CLOCK = ("data_wait_s", "pairs_per_s", "time_ms")

SCRIPT = """
import json, sys, torch
from v2a_dpo.config import Params
from v2a_dpo.stages.align import align
torch.set_num_threads(1)
job = json.loads(sys.argv[1])
align(Params.model_validate(job["params"]), **job["arguments"])
"""


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The same number of threads as in the processes started here: it decides the last bits of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(problem, run):
    """The stage in a process of its own, to be killed."""
    job = json.dumps({"params": PARAMS.model_dump(by_alias=True), "arguments": problem.arguments(run)})
    return subprocess.Popen([sys.executable, "-c", SCRIPT, job], env={**os.environ, "OMP_NUM_THREADS": "1"})


def weights(problem, run) -> bytes:
    return (problem.root / run / "aligned" / "model.safetensors").read_bytes()


def log_of(problem, run):
    records = read_log(problem.root / run / "alignment" / "log.jsonl")
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in records]


@pytest.fixture(scope="module")
def uninterrupted(problem):
    align(PARAMS, **problem.arguments("uninterrupted"))
    return weights(problem, "uninterrupted"), log_of(problem, "uninterrupted")


def test_the_policy_starts_as_the_reference_and_learns_to_prefer_winners(uninterrupted):
    _, log = uninterrupted
    assert (log[0]["margin"], log[0]["margin_abs_p90"], log[0]["accuracy"]) == (0.0, 0.0, 0.5)
    assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert log[0]["held_out_margin"] == 0.0
    assert log[-1]["held_out_accuracy"] > 0.9
    assert log[-1]["held_out_margin"] > 1
    assert log[-1]["held_out_loss"] < 0.3
    assert log[-1]["held_out_winner_difference"] < log[-1]["held_out_loser_difference"]


def test_the_log_has_one_record_a_step_easy_phase_first(uninterrupted):
    _, log = uninterrupted
    assert [record["step"] for record in log] == list(range(15))
    phases = [record["phase"] for record in log[:-1]]
    assert phases == ["easy"] * phases.count("easy") + ["hard"] * phases.count("hard")
    assert 0 < phases.count("hard") < phases.count("easy")
    assert [record["step"] for record in log if "held_out_accuracy" in record] == [0, 5, 10, 14]
    assert log[3]["learning_rate"] == log[13]["learning_rate"] == 5e-5
    assert log[0]["learning_rate"] == 1.25e-5
    assert all(record["gradient_norm"] > 0 for record in log[:-1])


@pytest.mark.parametrize("moment", ["during the reference", "before the first checkpoint", "late"])
def test_a_killed_run_resumes_to_the_same_bytes_without_double_records(problem, uninterrupted, moment):
    run = f"killed {moment}"
    folder = problem.root / run / "alignment"

    def reached() -> bool:
        if moment == "during the reference":
            return any(file.stat().st_size > 2 * 3 * 4 * 5 for file in folder.glob("reference-*.f32"))
        lines = (folder / "log.jsonl").read_bytes().count(b"\n") if (folder / "log.jsonl").exists() else 0
        return lines > (2 if moment == "before the first checkpoint" else 10)

    process = start(problem, run)
    while not reached():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (problem.root / run / "aligned").exists()
    align(PARAMS, **problem.arguments(run))
    assert weights(problem, run) == uninterrupted[0]
    assert log_of(problem, run) == uninterrupted[1]


def test_only_what_the_velocity_depends_on_is_trained(problem, uninterrupted):
    before = load_file(problem.root / "generator" / "model.safetensors")
    after = load_file(problem.root / "uninterrupted" / "aligned" / "model.safetensors")
    frozen = {"latent_mean", "latent_std", "empty_string_feat", "empty_clip_feat", "empty_sync_feat"}
    assert {name for name, tensor in before.items() if torch.equal(tensor, after[name])} == frozen


def test_a_finished_run_leaves_model_log_and_summary_and_is_not_done_again(problem, uninterrupted):
    folder = problem.root / "uninterrupted" / "alignment"
    names = sorted(path.suffix or path.name for path in folder.iterdir())
    assert names == [".f32", ".json", ".jsonl"]
    seen = []
    summary = align(PARAMS, **problem.arguments("uninterrupted"), progress=lambda *event: seen.append(event))
    assert seen == []
    assert summary.steps_by_phase == {"easy": 9, "hard": 5}
    assert (summary.training_pairs, summary.held_out_pairs) == (20, 4)
    assert summary.before["held_out_accuracy"] == 0.5
    assert "0.500 ->" in str(summary)


def test_a_run_without_held_out_pairs_trains_on_all_of_them_and_measures_none(problem):
    """The paper's presets hold nothing out."""
    params = PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update={"held_out": 0.0, "steps": 3})})
    summary = align(params, **problem.arguments("all pairs"))
    assert (summary.training_pairs, summary.held_out_pairs) == (24, 0)
    assert (summary.before, summary.after) == (None, None)
    assert str(summary) == "Aligned on 24 pairs in 2 easy, 1 hard steps"
    log = log_of(problem, "all pairs")
    assert [record["step"] for record in log] == [0, 1, 2]
    section = training_section(log)
    assert "held-out" not in section.explanation
    assert "Held out" not in "".join(section.blocks)


def test_another_beta_trains_anew_but_reuses_the_reference(problem, uninterrupted):
    work = problem.root / "another beta" / "alignment"
    work.mkdir(parents=True)
    (reference,) = (problem.root / "uninterrupted" / "alignment").glob("*.f32")
    (work / reference.name).write_bytes(reference.read_bytes())
    params = PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update={"beta": 300.0})})
    seen = []
    align(params, **problem.arguments("another beta"), progress=lambda what, done, total: seen.append(what))
    assert "Measuring the reference" not in seen
    assert weights(problem, "another beta") != uninterrupted[0]


def test_a_checkpoint_of_other_settings_is_not_resumed(problem, uninterrupted):
    def stop(record):
        if record["step"] == 9:
            raise KeyboardInterrupt

    params = PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update={"beta": 50.0})})
    with pytest.raises(KeyboardInterrupt):
        align(params, **problem.arguments("changed"), on_record=stop)
    folder = Path(problem.arguments("changed")["log"])
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-00000008"]
    align(PARAMS, **problem.arguments("changed"))
    assert weights(problem, "changed") == uninterrupted[0]
    assert log_of(problem, "changed") == uninterrupted[1]


def test_too_high_a_learning_rate_stops_with_advice(problem):
    params = PARAMS.model_copy(
        update={"align": PARAMS.align.model_copy(update={"learning_rate": 30.0, "warmup_steps": 0})}
    )
    with pytest.raises(UserError, match=r"diverged at step \d+.*Lower align.learning_rate"):
        align(params, **problem.arguments("diverging"))
    assert not (problem.root / "diverging" / "aligned").exists()


def test_a_pair_whose_candidate_is_nowhere_is_named(problem):
    arguments = problem.arguments("incomplete")
    with pytest.raises(UserError, match=r"8 pairs are not in the candidates, such as that of clip 'clip23'"):
        align(PARAMS, **{**arguments, "candidates": arguments["candidates"][:1]})
    with pytest.raises(UserError, match="not in the conditions"):
        align(PARAMS, **{**arguments, "conditions": arguments["conditions"][1:]})
    with pytest.raises(UserError, match="more than once in the candidates"):
        align(PARAMS, **{**arguments, "candidates": [*arguments["candidates"], arguments["candidates"][0]]})
