"""Stages killed with SIGKILL at three moments, then finished: the artifacts equal the uninterrupted ones byte for
byte."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests import forked

MINIATURE = Path(__file__).with_name("miniature.yaml")
pytestmark = pytest.mark.slow


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.fixture
def start(database_template, tmp_path):
    """Starts the program, with an MLflow of its own."""
    shutil.copy(database_template, tmp_path / "mlflow.db")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    return lambda *arguments: forked.start(
        "v2a_dpo.cli",
        [*arguments, "--params", str(MINIATURE)],
        output=tmp_path / "printed",
        environment=environment,
    )


def exit_code(process):
    process.join()
    return process.exitcode


def kill_when(process, *, shards, folder, delay_s):
    """Kills it `delay_s` after `folder` holds `shards` shards; False when it ended before."""
    deadline = time.monotonic() + 120
    while process.is_alive() and len(list(folder.glob("part-*"))) < shards and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay_s)
    alive = process.is_alive()
    forked.kill(process) if alive else process.join()
    return alive


def test_killed_generation_resumes_to_the_same_bytes(loop, start, tmp_path):
    folder, draw = tmp_path / "candidates", random.Random(1)
    arguments = (
        "generate", "--conditions", loop.conditions("preference"), "--generator", loop.base, "--output", str(folder),
    )  # fmt: skip
    kills = [kill_when(start(*arguments), shards=n, folder=folder, delay_s=draw.uniform(0, 0.2)) for n in (0, 1, 2)]
    assert any(kills)
    assert exit_code(start(*arguments)) == 0
    assert contents(folder) == contents(loop.candidates("preference"))


def test_killed_scoring_resumes_to_the_same_bytes_and_keeps_finished_shards(loop, start, tmp_path):
    folder, draw = tmp_path / "scores", random.Random(2)
    arguments = (
        "score", "--clips", loop.clips("preference"), "--candidates", loop.candidates("preference"),
        "--scorers", loop.scorers, "--output", str(folder),
    )  # fmt: skip
    kills = [kill_when(start(*arguments), shards=n, folder=folder, delay_s=draw.uniform(0, 0.2)) for n in (0, 1, 2)]
    assert any(kills)
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert exit_code(start(*arguments)) == 0
    assert contents(folder) == contents(loop.scores("preference"))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_killed_alignment_resumes_to_the_same_weights(loop, start, tmp_path):
    output, log, draw = tmp_path / "aligned", tmp_path / "alignment", random.Random(3)
    arguments = (
        "align", "--pairs", loop.pairs,
        "--candidates", loop.candidates("annotation"), "--candidates", loop.candidates("preference"),
        "--conditions", loop.conditions("annotation"), "--conditions", loop.conditions("preference"),
        "--generator", loop.base, "--output", str(output), "--log", str(log),
    )  # fmt: skip
    reference = tmp_path / "reference"
    uninterrupted = list(arguments)
    uninterrupted[-3], uninterrupted[-1] = str(reference / "aligned"), str(reference / "alignment")
    assert exit_code(start(*uninterrupted)) == 0
    for _ in range(3):
        process = start(*arguments)
        deadline = time.monotonic() + 120
        while process.is_alive() and not list(log.glob("checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        forked.kill(process) if process.is_alive() else process.join()
    assert exit_code(start(*arguments)) == 0
    assert contents(output) == contents(reference / "aligned")


def test_a_damaged_shard_is_made_again(loop, start, tmp_path):
    folder = tmp_path / "candidates"
    shutil.copytree(loop.candidates("preference"), folder)
    shard = folder / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:1000])
    process = start(
        "generate", "--conditions", loop.conditions("preference"), "--generator", loop.base, "--output", str(folder)
    )
    assert exit_code(process) == 0
    assert contents(folder) == contents(loop.candidates("preference"))
