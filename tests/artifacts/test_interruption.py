"""Kills, crashes and full disks: what is there afterwards is whole, and the next run completes it to the same bytes."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts.builds import Build
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.errors import UserError

FolderBytes = Callable[[Path], dict[str, bytes]]
PROGRAM = Path(__file__).with_name("builds.py")
SHARDS = 12


def start(folder: Path | str, journal: Path, *, version: str = "1", max_file_bytes: int = 0) -> subprocess.Popen[str]:
    arguments = [str(folder), str(journal), str(SHARDS), version, str(max_file_bytes)]
    return subprocess.Popen([sys.executable, str(PROGRAM), *arguments], stderr=subprocess.PIPE, text=True)


def made(journal: Path) -> list[int]:
    return [int(line) for line in journal.read_text().split()] if journal.exists() else []


def whole_shards(folder: Path) -> set[int]:
    return {int(file.name[5:10]) for file in folder.glob("part-*.parquet")}


@pytest.mark.slow
def test_a_build_killed_again_and_again_ends_in_the_same_bytes_and_repeats_no_finished_shard(
    tmp_path: Path, folder_bytes: FolderBytes
) -> None:
    journal = tmp_path / "journal"
    assert start(tmp_path / "undisturbed", journal).wait() == 0
    expected = folder_bytes(tmp_path / "undisturbed")
    journal.unlink()

    folder = tmp_path / "killed"
    moments = random.Random(20)
    for _ in range(4):
        before, done = len(made(journal)), whole_shards(folder)
        process = start(folder, journal)
        while len(made(journal)) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not done & set(made(journal)[before:]), "a finished shard was made again"
        for index in whole_shards(folder):
            name = f"part-{index:05d}.parquet"
            assert (folder / name).read_bytes() == expected[name]
    assert len(whole_shards(folder)) < SHARDS, "the kills came too late to show anything"

    before, done = len(made(journal)), whole_shards(folder)
    assert start(folder, journal).wait() == 0
    assert sorted(made(journal)[before:]) == sorted(set(range(SHARDS)) - done)
    assert folder_bytes(folder) == expected


class Crash(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def crashing(real: Callable[..., object], *, step: int, after: bool) -> Callable[..., object]:
    """The function `real`, but its call number `step` crashes before or after doing its work."""
    calls = itertools.count()

    def call(*arguments: object, **named: object) -> object:
        crash = next(calls) == step
        result = None if crash and not after else real(*arguments, **named)
        if crash:
            raise Crash
        return result

    return call


@pytest.mark.parametrize("operation", ["replace", "remove"])
def test_a_crash_at_any_step_of_a_rebuild_never_shows_old_and_new_shards_mixed(
    tmp_path: Path, folder_bytes: FolderBytes, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    old, new = ["a", "b", "c", "d"], ["a", "B", "C"]
    fresh = Build(tmp_path / "fresh")
    fresh(old)
    old_print = Dataset.open(fresh.folder).fingerprint
    Build(tmp_path / "new")(new)
    expected = folder_bytes(tmp_path / "new")

    module = os if operation == "remove" else Path
    real = getattr(module, operation)
    crashes = 0
    for step in range(8):
        for after in (False, True):
            build = Build(tmp_path / f"{operation}-{step}-{after}")
            build(old)
            with monkeypatch.context() as patch:
                patch.setattr(module, operation, crashing(real, step=step, after=after))
                try:
                    build(new)
                    crashed = False
                except Crash:
                    crashed = True
            crashes += crashed
            try:
                dataset = Dataset.open(build.folder)
            except UserError:
                assert crashed
            else:
                assert not dataset.verify()
                assert crashed or folder_bytes(Path(build.folder)) == expected
                assert len(dataset.shards) == (3 if dataset.fingerprint != old_print else 4)
            build(new)
            assert folder_bytes(Path(build.folder)) == expected
    assert crashes


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_whole_shards_and_says_so(tmp_path: Path, folder_bytes: FolderBytes) -> None:
    folder, journal = tmp_path / "data", tmp_path / "journal"
    process = start(folder, journal, max_file_bytes=100_000)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "cannot be written" in errors
    assert "part-00001.parquet" in errors
    assert "Traceback" not in errors
    assert sorted(folder_bytes(folder)) == ["part-00000.parquet"], "a partial file was left behind"

    assert start(folder, journal).wait() == 0
    assert made(journal) == [0, 1, *range(1, SHARDS)]
    assert Dataset.open(str(folder)).verify() == []


@pytest.mark.slow
def test_a_build_on_s3_that_is_killed_continues(bucket: str, tmp_path: Path, folder_bytes: FolderBytes) -> None:
    journal = tmp_path / "journal"
    assert start(tmp_path / "local", journal).wait() == 0
    expected = Dataset.open(str(tmp_path / "local"))
    journal.unlink()

    process = start(f"{bucket}/data", journal)
    while len(made(journal)) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(made(journal)) == 5
    with pytest.raises(UserError, match="no finished data set"):
        Dataset.open(f"{bucket}/data")

    assert start(f"{bucket}/data", journal).wait() == 0
    assert len(made(journal)) <= SHARDS + 1
    resumed = Dataset.open(f"{bucket}/data")
    assert resumed.manifest == expected.manifest
    assert resumed.verify() == []
