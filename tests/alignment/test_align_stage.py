"""The alignment stage on a real small generator: it learns, it is exact, and it survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.alignment.conftest import DURATION_S, schema_of, small_model, write
from v2a_dpo.alignment.pairs_data import AlignmentInputs
from v2a_dpo.alignment.run.log import read_log
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import PAIRS
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.report.training import training_section
from v2a_dpo.stages.align import align

SETTINGS = {
    "beta": 100, "learning_rate": 5e-5, "steps": 14, "batch_size": 3, "warmup_steps": 4, "validation_share": 0.15,
    "validate_every": 5, "checkpoint_every": 4,
}  # fmt: skip
PARAMS = Params(generator={"family": "tiny", "device": "cpu"}, prepare={"duration_s": DURATION_S}, align=SETTINGS)
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
    job = json.dumps({"params": PARAMS.model_dump(), "arguments": problem.arguments(run)})
    return subprocess.Popen([sys.executable, "-c", SCRIPT, job], env={**os.environ, "OMP_NUM_THREADS": "1"})


def weights(problem, run) -> bytes:
    return (problem.root / run / "aligned" / "model.safetensors").read_bytes()


def log_of(problem, run):
    records = read_log(problem.root / run / "alignment" / "log.jsonl")
    return [{name: value for name, value in record.items() if name not in CLOCK} for record in records]


def with_settings(**changes):
    """The parameters with other settings of the alignment."""
    return PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update=changes)})


def interrupt_at(step):
    """A receiver of records that stops the run when it has logged `step`, as Ctrl+C would."""

    def receive(record):
        if record["step"] == step:
            raise KeyboardInterrupt

    return receive


@pytest.fixture(scope="module")
def uninterrupted(problem):
    align(PARAMS, **problem.arguments("uninterrupted"))
    return weights(problem, "uninterrupted"), log_of(problem, "uninterrupted")


def test_the_policy_starts_as_the_reference_and_learns_to_prefer_winners(uninterrupted):
    _, log = uninterrupted
    assert (log[0]["margin"], log[0]["margin_abs_p90"], log[0]["implicit_accuracy"]) == (0.0, 0.0, 0.5)
    assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert log[0]["validation_margin"] == 0.0
    assert log[-1]["validation_implicit_accuracy"] > 0.9
    assert log[-1]["validation_margin"] > 1
    assert log[-1]["validation_loss"] < 0.3
    assert log[-1]["validation_winner_difference"] < log[-1]["validation_loser_difference"]


def test_the_log_has_one_record_a_step_easy_phase_first(uninterrupted):
    _, log = uninterrupted
    assert [record["step"] for record in log] == list(range(15))
    phases = [record["phase"] for record in log[:-1]]
    assert phases == ["easy"] * phases.count("easy") + ["hard"] * phases.count("hard")
    assert 0 < phases.count("hard") < phases.count("easy")
    assert [record["step"] for record in log if "validation_implicit_accuracy" in record] == [0, 5, 10, 14]
    assert log[3]["learning_rate"] == log[13]["learning_rate"] == 5e-5
    assert log[0]["learning_rate"] == 1.25e-5
    assert all(record["gradient_norm"] > 0 for record in log[:-1])


@pytest.mark.slow
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
    assert names == [".f32", ".json", ".json", ".jsonl"]
    seen = []
    summary = align(PARAMS, **problem.arguments("uninterrupted"), progress=lambda *event: seen.append(event))
    assert seen == []
    assert summary.steps_by_phase == {"easy": 9, "hard": 5}
    assert (summary.training_pairs, summary.validation_pairs) == (20, 4)
    assert summary.before["validation_implicit_accuracy"] == 0.5
    assert "0.500 ->" in str(summary)


def test_a_run_without_validation_pairs_trains_on_all_of_them_and_measures_none(problem):
    """The paper's presets hold nothing out."""
    params = PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update={"validation_share": 0.0, "steps": 3})})
    summary = align(params, **problem.arguments("all pairs"))
    assert (summary.training_pairs, summary.validation_pairs) == (24, 0)
    assert (summary.before, summary.after) == (None, None)
    assert str(summary) == "Aligned on 24 pairs in 2 easy, 1 hard steps"
    log = log_of(problem, "all pairs")
    assert [record["step"] for record in log] == [0, 1, 2]
    section = training_section(log)
    assert "validation" not in section.explanation
    assert "Validation" not in "".join(section.blocks)


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


def test_too_high_a_learning_rate_stops_with_advice(problem):
    params = PARAMS.model_copy(
        update={"align": PARAMS.align.model_copy(update={"learning_rate": 30.0, "warmup_steps": 0})}
    )
    with pytest.raises(UserError, match=r"diverged at step \d+.*Lower align.learning_rate"):
        align(params, **problem.arguments("diverging"))
    assert not (problem.root / "diverging" / "aligned").exists()


@pytest.mark.parametrize("validation", [0.15, 0.0])
def test_the_last_measurement_is_judged_and_a_diverged_model_is_not_saved(problem, validation):
    """The only step starts from the reference, so that nothing but the last measurement sees what it did."""
    changes = {"learning_rate": 0.1, "warmup_steps": 0, "steps": 1, "validation_share": validation}
    run = f"diverged at the end {validation}"
    with pytest.raises(UserError, match=r"diverged at step 1: the error on .*winners is [\d.]+ times the reference's"):
        align(with_settings(**changes), **problem.arguments(run))
    assert not (problem.root / run / "aligned").exists()
    assert not (problem.root / run / "alignment" / "summary.json").exists()


def test_weights_that_are_not_finite_are_neither_a_checkpoint_nor_a_model(problem):
    changes = {"learning_rate": 1e37, "weight_decay": 1e3, "warmup_steps": 0, "steps": 1, "validation_share": 0.0}
    with pytest.raises(UserError, match=r"diverged at step 1: weights of .* are not finite"):
        align(with_settings(**changes), **problem.arguments("not finite"))
    assert not (problem.root / "not finite" / "aligned").exists()
    assert not list((problem.root / "not finite" / "alignment").glob("checkpoint-*"))


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_a_gradient_is_clipped_to_the_norm_that_the_settings_name(problem, share):
    """After one step AdamW's first moment is a tenth of the clipped gradient."""
    with pytest.raises(KeyboardInterrupt):
        align(
            with_settings(steps=1, validation_share=0.0),
            **problem.arguments("gradient norm"),
            on_record=interrupt_at(0),
        )
    (first,) = log_of(problem, "gradient norm")
    run = f"gradient clip {share}"
    changes = {"steps": 1, "validation_share": 0.0, "gradient_clip": share * first["gradient_norm"]}
    moments = {}

    def keep(what, done, total):
        if what == "Aligning":
            (checkpoint,) = (problem.root / run / "alignment").glob("checkpoint-*")
            moments.update(torch.load(checkpoint, weights_only=True)["optimizer"]["state"])

    align(with_settings(**changes), **problem.arguments(run), progress=keep)
    total = torch.stack([state["exp_avg"].norm() for state in moments.values()]).norm()
    assert total.item() == pytest.approx(0.1 * min(share, 1.0) * first["gradient_norm"], rel=1e-3)


def test_the_speed_in_the_log_is_that_of_the_whole_step(problem, monkeypatch):
    step = torch.optim.AdamW.step

    def slow(self, closure=None):
        time.sleep(0.2)
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", slow)
    align(with_settings(steps=1, validation_share=0.0), **problem.arguments("slow"))
    (record,) = read_log(problem.root / "slow" / "alignment" / "log.jsonl")
    assert record["pairs_per_s"] < PARAMS.align.batch_size / 0.2


def test_clips_of_another_duration_are_refused(problem):
    params = PARAMS.model_copy(update={"prepare": PARAMS.prepare.model_copy(update={"duration_s": 0.5})})
    with pytest.raises(
        UserError, match=r"candidates are not those of clips of 0.5 s .*latent .*\(8, 20\), and \(16, 20\)"
    ):
        align(params, **problem.arguments("another duration"))
    inputs = AlignmentInputs.open(*(problem.arguments()[name] for name in ("pairs", "candidates", "conditions")))
    model = small_model()
    with pytest.raises(UserError, match=r"conditions are not those .*clip has the shape \(2, 32\), and \(3, 32\)"):
        replace(inputs, candidates=[]).check_duration(model, 0.4)
    inputs.check_duration(model, DURATION_S)


def test_pairs_of_other_candidates_and_candidates_of_other_conditions_are_refused(problem, tmp_path):
    """The same clips and samples, so that every row is there: only winners' and losers' latents are exchanged."""
    arguments = problem.arguments("other candidates")
    source = Dataset.open(arguments["candidates"][1])
    rows = source.table().to_pylist()
    swapped = [{**row, "sample": 2 - row["sample"]} for row in rows]
    made_of = {"conditions": problem.root / "conditions-1"}
    write(tmp_path / "swapped", schema_of(source), swapped, made_of=made_of)
    others = {**arguments, "candidates": [arguments["candidates"][0], str(tmp_path / "swapped")]}
    with pytest.raises(UserError, match=rf"The pairs in \S+ were made from candidates .*{source.fingerprint}.*swapped"):
        align(PARAMS, **others)
    with pytest.raises(UserError, match=r"The pairs in \S+ were made from candidates"):
        align(
            PARAMS, **{**arguments, "candidates": arguments["candidates"][1:]}
        )  # those of the rated pairs are missing
    with pytest.raises(UserError, match=r"The candidates in \S+ were made from conditions"):
        align(PARAMS, **{**arguments, "conditions": arguments["conditions"][:1]})

    write(tmp_path / "pairs", PAIRS, Dataset.open(arguments["pairs"]).table().to_pylist())
    with pytest.raises(UserError, match=r"The pairs in \S+ were made from candidates that it does not name"):
        align(PARAMS, **{**arguments, "pairs": str(tmp_path / "pairs")})


def test_a_pair_whose_candidate_is_nowhere_is_named(problem, tmp_path):
    arguments = problem.arguments("incomplete")
    made_of = {"candidates": problem.root / "candidates-0"}
    write(tmp_path / "pairs", PAIRS, Dataset.open(arguments["pairs"]).table().to_pylist(), made_of=made_of)
    first = {name: arguments[name][:1] for name in ("candidates", "conditions")}
    with pytest.raises(UserError, match=r"8 pairs are not in the candidates, such as that of clip 'clip23'"):
        align(PARAMS, **{**arguments, **first, "pairs": str(tmp_path / "pairs")})
    with pytest.raises(UserError, match="more than once in the candidates"):
        align(PARAMS, **{**arguments, "candidates": [*arguments["candidates"], arguments["candidates"][0]]})
