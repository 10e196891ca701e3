"""A start that finds a run: its own goes on, another one is refused in words or moved aside, and nothing is deleted."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch

import v2a_dpo
from tests.alignment.conftest import small_model
from tests.alignment.test_align_stage import PARAMS, interrupt_at, log_of, weights, with_settings
from v2a_dpo.alignment.run.record import Identity, read_run
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import velocity_code
from v2a_dpo.stages.align import align


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """It decides the last bits of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(problem):
    """A finished run, to be copied."""
    align(PARAMS, **problem.arguments("finished"))
    return problem.root / "finished"


@pytest.fixture(scope="module")
def stopped(problem):
    """A run that was stopped at step 9, with a checkpoint at 8, to be copied."""
    with pytest.raises(KeyboardInterrupt):
        align(PARAMS, **problem.arguments("stopped"), on_record=interrupt_at(9))
    return problem.root / "stopped"


@pytest.fixture
def copy(problem):
    """Copies a run and returns the stage's arguments for the copy."""

    def make(run):
        name = f"{run.name}-{uuid.uuid4().hex[:8]}"
        shutil.copytree(run, problem.root / name)
        return name, problem.arguments(name)

    return make


def identity_in(record):
    """The identity in the content of a `run.json`."""
    return Identity(**json.loads(record)["identity"])


def files(folder):
    """The content of every file of a run but its caches, by name."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and ".f32" not in path.name)
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("pairs-")}


def test_settings_without_effect_on_weights_keep_the_checkpoint(problem, finished, stopped, copy):
    name, arguments = copy(stopped)
    steps = []
    params = with_settings(checkpoint_every=2, validate_every=7)
    params = params.model_copy(update={"generator": params.generator.model_copy(update={"device": "auto"})})
    if torch.cuda.is_available():
        pytest.skip("auto is another device here")
    align(params, **arguments, on_record=lambda record: steps.append(record["step"]))
    assert steps[0] == 8
    assert weights(problem, name) == weights(problem, finished.name)
    align(with_settings(checkpoint_every=3), **arguments, on_record=lambda record: steps.append("again"))
    assert "again" not in steps


@pytest.mark.parametrize(("state", "kept"), [
    ("finished", "a finished alignment of 14 steps"),
    ("stopped", "an unfinished alignment, with 8 steps in its checkpoint"),
])  # fmt: skip
def test_another_run_is_refused_with_every_difference_and_left_as_it_is(problem, request, copy, state, kept):
    _, arguments = copy(request.getfixturevalue(state))
    before = files(arguments["log"])
    params = with_settings(learning_rate=2e-5, validation_share=0.2).model_copy(update={"seed": 1})
    told = r"align.learning_rate 5e-05 -> 2e-05; align.validation_share 0.15 -> 0.2; seed 0 -> 1\."
    with pytest.raises(UserError, match=rf"{kept}.*differs.*: {told}.*--start-anew.*earlier") as error:
        align(params, **arguments)
    assert arguments["log"] in error.value.where
    assert "--keep-artifacts" not in str(error.value)
    assert files(arguments["log"]) == before


def test_other_data_and_another_base_are_named(problem, finished, copy, tmp_path):
    _, arguments = copy(finished)
    (tmp_path / "generator").mkdir()
    small_model(seed=1).save(tmp_path / "generator")
    with pytest.raises(UserError, match=r": the base generator\."):
        align(PARAMS, **{**arguments, "generator": str(tmp_path / "generator")})
    more = {name: [*arguments[name], arguments[name][0]] for name in ("candidates", "conditions")}
    with pytest.raises(UserError, match=r": the candidates; the conditions\."):
        align(PARAMS, **{**arguments, **more})


def test_the_order_in_which_folders_are_named_does_not_matter(finished, copy):
    _, arguments = copy(finished)
    turned = {name: arguments[name][::-1] for name in ("candidates", "conditions")}
    align(PARAMS, **{**arguments, **turned}, on_record=lambda record: pytest.fail("it is done again"))


@pytest.mark.slow
def test_started_anew_the_earlier_run_lies_whole_under_its_identity(problem, stopped, copy):
    name, arguments = copy(stopped)
    log, before = Path(arguments["log"]), files(arguments["log"])
    other = with_settings(beta=50.0)
    align(other, **arguments, start_anew=True)
    identities = [read_run(arguments["log"]).identity]
    earlier = identity_in(before["run.json"])
    assert files(log / "earlier" / earlier.digest[:12]) == before
    assert [record["step"] for record in log_of(problem, name)] == list(range(15))
    assert len(list(log.glob("*.f32"))) == 1, "the reference's errors do not depend on beta and are used again"

    model, ended = weights(problem, name), files(log)
    align(PARAMS, **arguments, start_anew=True)
    place = log / "earlier" / identities[0].digest[:12]
    assert files(place) == {key: content for key, content in ended.items() if not key.startswith("earlier/")}
    assert (problem.root / name / f"aligned-{place.name}" / "model.safetensors").read_bytes() == model


def test_a_run_that_was_killed_before_its_first_step_keeps_nobody_out(problem, stopped, copy):
    """All that it left is what it was to be made from."""
    name, arguments = copy(stopped)
    log = Path(arguments["log"])
    (log / "checkpoint-00000008.pt").unlink()
    (log / "log.jsonl").unlink()
    earlier = read_run(arguments["log"]).identity.digest[:12]
    align(with_settings(steps=1), **arguments)
    assert [record["step"] for record in log_of(problem, name)] == [0, 1]
    assert (log / "earlier" / earlier / "run.json").exists()


@pytest.mark.slow
def test_a_run_whose_model_is_gone_or_another_is_begun_anew_on_request_alone(problem, finished, copy):
    name, arguments = copy(finished)
    output = Path(arguments["output"])
    (output / "model.safetensors").write_bytes(b"another")
    with pytest.raises(UserError, match=r"the model in \S+ is not the one it wrote"):
        align(PARAMS, **arguments)
    shutil.rmtree(output)
    with pytest.raises(UserError, match=r"its model is not in \S+ any more"):
        align(PARAMS, **arguments)
    first = files(arguments["log"])
    for number in ("", "-2"):
        align(PARAMS, **arguments, start_anew=True)
        assert weights(problem, name) == weights(problem, finished.name)
        digest = read_run(arguments["log"]).identity.digest[:12]
        assert files(Path(arguments["log"], "earlier", f"{digest}{number}")).keys() == first.keys()
        shutil.rmtree(output)


def test_a_model_and_a_log_that_nobody_accounts_for_are_not_overwritten(problem, finished, copy):
    name, arguments = copy(finished)
    with pytest.raises(UserError, match=r"There is a model, .*: there is no record of what it was made from"):
        align(PARAMS, **{**arguments, "log": str(problem.root / name / "new")})
    (Path(arguments["log"]) / "run.json").unlink()
    before, model = files(arguments["log"]), weights(problem, name)
    with pytest.raises(UserError, match=r"a finished alignment .*: there is no record of what it was made from"):
        align(PARAMS, **arguments)
    align(PARAMS, **arguments, start_anew=True)
    assert files(Path(arguments["log"], "earlier", "unknown")) == before
    assert (problem.root / name / "aligned-unknown" / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize("moved", [["checkpoint-00000008.pt"], ["checkpoint-00000008.pt", "log.jsonl"]])
def test_a_move_that_was_killed_goes_on_into_the_same_folder(stopped, copy, moved):
    _, arguments = copy(stopped)
    log, before = Path(arguments["log"]), files(arguments["log"])
    place = log / "earlier" / identity_in(before["run.json"]).digest[:12]
    place.mkdir(parents=True)
    for name in moved:
        (log / name).rename(place / name)
    with pytest.raises(KeyboardInterrupt):
        align(with_settings(beta=50.0), **arguments, start_anew=True, on_record=interrupt_at(0))
    assert files(place) == before


def test_the_code_that_decides_on_weights_is_in_the_identity_and_no_other(problem):
    recorded = read_run(str(problem.root / "finished" / "alignment")).identity.code
    deciding = {"flow_dpo", "velocity_errors", "interpolate", "split_pairs", "visit_order", "learning_rate", "row_seed"}
    of_classes = {"PairData.batch", "MMAudioModel.embed", "MMAudioModel.velocity", "MMAudioNetwork"}
    assert deciding | of_classes <= recorded.keys()
    without_effect = ("TrainingLog", "save_checkpoint", "Mirror", "MMAudioModel.decode", "TinyEncoders", "generate")
    assert not recorded.keys() & set(without_effect)
    model, folder = small_model(), problem.root / "generator"
    found = (type(model).embed, type(model).velocity, type(model.network))
    assert code_of(*velocity_code(folder)) == code_of(*found)


CHANGED = """
import json, sys, torch
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.stages.align import align
torch.set_num_threads(1)
params, *jobs = json.loads(sys.argv[1])
for arguments, keep, anew in jobs:
    steps = []
    try:
        summary = align(
            Params.model_validate({**params, "keep_artifacts": keep}), **arguments, start_anew=anew,
            on_record=lambda record: steps.append(record["step"]),
        )
        print(json.dumps([steps[:1], str(summary)]))
    except UserError as error:
        print(json.dumps([steps[:1], str(error)]))
"""


@pytest.mark.slow
def test_a_loss_of_the_other_sign_is_seen_in_finished_and_stopped_runs_and_kept_on_request(
    problem, finished, stopped, copy, tmp_path
):
    package = tmp_path / "v2a_dpo"
    shutil.copytree(Path(v2a_dpo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    losses = package / "alignment" / "losses.py"
    losses.write_text(losses.read_text().replace("z_B = -(beta / 2)", "z_B = (beta / 2)"))
    runs = [copy(run)[1] for run in (finished, stopped)]
    jobs = [[arguments, keep, False] for keep in (False, True) for arguments in runs]
    jobs += [[copy(stopped)[1], False, True]]
    done = subprocess.run(
        [sys.executable, "-c", CHANGED, json.dumps([PARAMS.model_dump(), *jobs])],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, refused_too, kept, resumed, anew = map(json.loads, done.stdout.splitlines())
    for steps, text in (refused, refused_too):
        assert steps == []
        assert ": code: flow_dpo. " in text
        assert "--keep-artifacts" in text
    assert kept[0] == []
    assert resumed[0] == [8]
    for text in (kept[1], resumed[1]):
        assert text.endswith("kept from before a change of flow_dpo")
    assert anew[0] == [0]
    assert len(list(Path(jobs[-1][0]["log"]).glob("*.f32"))) == 2, "the reference of the other code is not taken"
    for arguments in runs:
        assert read_run(arguments["log"]).kept_changes == ["flow_dpo"]
