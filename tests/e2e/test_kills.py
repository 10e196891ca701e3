"""Stages killed with SIGKILL at three moments, then finished: the artifacts equal the uninterrupted ones byte for
byte."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MINIATURE = Path(__file__).with_name("miniature.yaml")
pytestmark = pytest.mark.slow


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "v2a_dpo.cli", *arguments, "--params", str(MINIATURE)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def kill(process):
    """Kills the process and the workers it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_when(process, *, shards, folder, delay_s):
    """Kills it `delay_s` after `folder` holds `shards` shards; False when it ended before."""
    deadline = time.monotonic() + 120
    while process.poll() is None and len(list(folder.glob("part-*"))) < shards and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay_s)
    alive = process.poll() is None
    kill(process) if alive else process.wait()
    return alive


def test_killed_generation_resumes_to_the_same_bytes(loop, tmp_path):
    folder, draw = tmp_path / "candidates", random.Random(1)
    arguments = (
        "generate", "--conditions", loop.conditions("preference"), "--generator", loop.base, "--output", str(folder),
    )  # fmt: skip
    kills = [kill_when(start(*arguments), shards=n, folder=folder, delay_s=draw.uniform(0, 0.2)) for n in (0, 1, 2)]
    assert any(kills)
    assert start(*arguments).wait() == 0
    assert contents(folder) == contents(loop.candidates("preference"))


def test_killed_scoring_resumes_to_the_same_bytes_and_keeps_finished_shards(loop, tmp_path):
    folder, draw = tmp_path / "scores", random.Random(2)
    arguments = (
        "score", "--clips", loop.clips("preference"), "--candidates", loop.candidates("preference"),
        "--scorers", loop.scorers, "--output", str(folder),
    )  # fmt: skip
    kills = [kill_when(start(*arguments), shards=n, folder=folder, delay_s=draw.uniform(0, 0.2)) for n in (0, 1, 2)]
    assert any(kills)
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert start(*arguments).wait() == 0
    assert contents(folder) == contents(loop.scores("preference"))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_killed_alignment_resumes_to_the_same_weights(loop, tmp_path):
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
    assert start(*uninterrupted).wait() == 0
    for _ in range(3):
        process = start(*arguments)
        deadline = time.monotonic() + 120
        while process.poll() is None and not list(log.glob("checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        kill(process) if process.poll() is None else process.wait()
    assert start(*arguments).wait() == 0
    assert contents(output) == contents(reference / "aligned")


def test_a_damaged_shard_is_made_again(loop, tmp_path):
    folder = tmp_path / "candidates"
    shutil.copytree(loop.candidates("preference"), folder)
    shard = folder / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:1000])
    process = start(
        "generate", "--conditions", loop.conditions("preference"), "--generator", loop.base, "--output", str(folder)
    )
    assert process.wait() == 0
    assert contents(folder) == contents(loop.candidates("preference"))
