"""The comparison of two runs' results finds every kind of difference, and follows renamed keys, columns and files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.same_results import RESULTS, main


def make_run(root: Path, *, value=0.1, time=1, key="accuracy", truth="truth", loser=2) -> Path:
    """A root with the three results that are compared: metrics, two shards of pairs and a training log."""
    for folder in ("evaluation", "pairs", "alignment"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "evaluation" / "metrics.json").write_text(json.dumps({"clips": 12, truth: {"is": [value, None]}}))
    for index in range(2):
        rows = pa.table({"clip_id": [f"clip-{index}"], "loser": pa.array([loser], pa.int16()), "margin": [0.5]})
        pq.write_table(rows, root / "pairs" / f"part-0000{index}.parquet")
    records = [{"step": step, key: 0.5, "time_ms": time + step, "data_wait_s": time} for step in range(3)]
    (root / "alignment" / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def compared(capsys, *arguments) -> tuple[int, list[str]]:
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out.splitlines()


def test_equal_results_with_other_times_are_the_same(tmp_path, capsys):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", time=9)
    status, lines = compared(capsys, before, after)
    assert status == 0
    assert lines == [
        "same       evaluation/metrics.json: 3 values",
        "same       pairs: 9 values",
        "same       alignment/log.jsonl: 6 values",
    ]


def test_a_number_that_differs_in_the_last_bit_is_named_with_both_values(tmp_path, capsys):
    before, after = make_run(tmp_path / "before", value=0.3), make_run(tmp_path / "after", value=0.1 + 0.2)
    status, lines = compared(capsys, before, after)
    assert status == 1
    assert lines[:2] == [
        "different  evaluation/metrics.json: 1 differences",
        "    truth.is.0: 0.3 -> 0.30000000000000004",
    ]


def test_every_shard_and_column_of_the_pairs_counts(tmp_path, capsys):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", loser=3)
    status, lines = compared(capsys, before, after, "--results", "pairs")
    assert (status, lines[1:]) == (1, ["    row.0.loser: 2 -> 3", "    row.1.loser: 2 -> 3"])
    wider = pa.table({"clip_id": ["clip-0"], "loser": pa.array([2], pa.int32()), "margin": [0.5]})
    for index in range(2):
        pq.write_table(wider, after / "pairs" / f"part-0000{index}.parquet")
    status, lines = compared(capsys, before, after, "--results", "pairs")
    assert status == 1
    assert "    type.loser: 'int16' -> 'int32'" in lines


def test_lost_records_and_another_order_are_differences(tmp_path, capsys):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after")
    log = after / "alignment" / "log.jsonl"
    records = log.read_text().splitlines(keepends=True)
    log.write_text("".join(records[:2]))
    status, lines = compared(capsys, before, after, "--results", "alignment/log.jsonl")
    assert (status, lines[1:]) == (1, ["    2.step: 2 -> absent", "    2.accuracy: 0.5 -> absent"])
    log.write_text("".join(json.dumps(dict(reversed(json.loads(record).items()))) + "\n" for record in records))
    status, lines = compared(capsys, before, after, "--results", "alignment/log.jsonl")
    assert (status, lines[1:]) == (1, ["    the same values in another order"])


def test_renamed_keys_and_folders_are_followed_and_hide_no_changed_value(tmp_path, capsys):
    before = make_run(tmp_path / "before")
    after = make_run(tmp_path / "after", key="implicit_accuracy", truth="reference")
    assert compared(capsys, before, after)[0] == 1
    (after / "alignment").rename(after / "alignment_run")
    results = ("--results", *(result.replace("alignment/", "alignment_run/") for result in RESULTS))
    renames = ("--rename", "accuracy=implicit_accuracy", "truth=reference", "alignment=alignment_run")
    assert compared(capsys, before, after, *results, *renames)[0] == 0
    make_run(before, value=0.2)
    status, lines = compared(capsys, before, after, *results, *renames)
    assert (status, lines[1]) == (1, "    reference.is.0: 0.2 -> 0.1")


def test_values_that_moved_are_found_at_their_new_path_and_hide_no_changed_value(tmp_path, capsys):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after")
    file = after / "evaluation" / "metrics.json"
    file.write_text(json.dumps({"new": "base", "systems": {"base": {"is": [0.1, None]}}, "counts": {"is": 12}}))
    moves = ("--rename", ".truth=.systems.base", ".clips=.counts.is", "--added", "new")
    assert compared(capsys, before, after, *moves)[0] == 0
    assert compared(capsys, before, after, *moves[:-2])[0] == 1
    file.write_text(file.read_text().replace("0.1", "0.2"))
    status, lines = compared(capsys, before, after, *moves)
    assert (status, lines[1]) == (1, "    systems.base.is.0: 0.1 -> 0.2")


@pytest.mark.parametrize("damage", ["no file", "no values", "no JSON", "no shards"])
def test_a_result_that_is_missing_or_empty_is_never_the_same(damage, tmp_path, capsys):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after")
    for root in (before, after):
        if damage == "no shards":
            for shard in (root / "pairs").iterdir():
                shard.unlink()
        elif damage == "no file":
            (root / "evaluation" / "metrics.json").unlink()
        else:
            (root / "evaluation" / "metrics.json").write_text("{}" if damage == "no values" else "{")
    status, lines = compared(capsys, before, after)
    assert status == 2
    assert [line.split()[0] for line in lines].count("missing") == 1
    assert len(lines) == 3


def test_a_rename_without_a_new_name_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path), "--rename", "accuracy"])
    assert "'accuracy' is not of the form OLD=NEW" in capsys.readouterr().err
