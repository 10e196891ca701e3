from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.artifacts.builds import LATENT, SCHEMA, Build, content
from v2a_dpo.artifacts.code import NO_CODE, Code
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.manifest import read_manifest
from v2a_dpo.artifacts.schema import TableSchema, TensorType, tensor_column, tensor_field
from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent, ShardTask, build_dataset
from v2a_dpo.errors import UserError

FolderBytes = Callable[[Path], dict[str, bytes]]
FIRST, SECOND = (Code({"sample": digest, "encode": "e0"}) for digest in ("s1", "s2"))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path / "data set")


def test_a_build_makes_every_shard_and_a_second_one_makes_none(build: Build, folder_bytes: FolderBytes) -> None:
    first = build(["a", "b", "c"])
    assert (first.made, first.kept, first.rows, first.quarantined) == (3, 0, 9, {"ValueError": 1})
    assert build.made == [0, 1, 2]
    before = folder_bytes(Path(build.folder))
    assert sorted(before) == [
        "_manifest.json",
        "_quarantine.parquet",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]

    second = build(["a", "b", "c"])
    assert (second.made, second.kept, second.rows, second.quarantined) == (0, 3, 9, {"ValueError": 1})
    assert build.made == []
    assert folder_bytes(Path(build.folder)) == before
    assert str(second) == "9 rows; 0 shards made, 3 already there; quarantined: 1 ValueError"


def test_only_the_shards_whose_inputs_changed_are_made_again(build: Build) -> None:
    build(["a", "b", "c"])
    summary = build(["a", "B", "c"])
    assert build.made == [1]
    assert (summary.made, summary.kept) == (1, 2)


def test_changed_parameters_or_schema_make_all_shards_stale(build: Build) -> None:
    build(["a", "b"])
    build(["a", "b"], parameters={"steps": 26})
    assert build.made == [0, 1]
    newer = TableSchema(SCHEMA.name, SCHEMA.version + 1, SCHEMA.arrow)
    build(["a", "b"], parameters={"steps": 26}, schema=newer)
    assert build.made == [0, 1]
    position = SCHEMA.arrow.get_field_index("latent")
    other_shape = SCHEMA.arrow.set(position, tensor_field("latent", TensorType("float16", (3, 4))))
    build(["a", "b"], parameters={"steps": 26}, schema=TableSchema(SCHEMA.name, SCHEMA.version + 1, other_shape))
    assert build.made == [0, 1]


def test_an_upstream_fingerprint_alone_only_changes_the_recorded_lineage(build: Build) -> None:
    build(["a"], upstream="one")
    shard = Path(build.folder, "part-00000.parquet").stat()
    build(["a"], upstream="two")
    assert build.made == []
    assert Path(build.folder, "part-00000.parquet").stat().st_mtime_ns == shard.st_mtime_ns
    assert read_manifest(build.folder).inputs == {"clips": "two"}


def test_a_shorter_build_after_a_longer_one_equals_the_shorter_one_alone(
    tmp_path: Path, folder_bytes: FolderBytes
) -> None:
    Build(tmp_path / "alone")(["a", "b"])
    longer = Build(tmp_path / "longer first")
    longer(["a", "b", "c", "d"])
    longer(["a", "b"])
    assert longer.made == []
    assert folder_bytes(tmp_path / "longer first") == folder_bytes(tmp_path / "alone")
    longer(["a", "b", "c"])
    assert longer.made == [2]


def test_a_build_deletes_nothing_that_is_not_its_own(build: Build) -> None:
    folder = Path(build.folder)
    folder.mkdir()
    foreign = ["holiday.mp4", "part-00009.parquet.bak", "notes.parquet", ".hidden.partial", "part-1.parquet"]
    for name in foreign:
        (folder / name).write_text("mine")
    left_by_kill = folder / f".part-00000.parquet.{'0' * 32}.partial"
    left_by_kill.touch()
    (folder / "part-00007.parquet").touch()
    build(["a"])
    assert all((folder / name).read_text() == "mine" for name in foreign)
    assert not left_by_kill.exists()
    assert not (folder / "part-00007.parquet").exists()


def test_a_folder_of_another_kind_is_not_overwritten(build: Build, folder_bytes: FolderBytes) -> None:
    build(["a"])
    before = folder_bytes(Path(build.folder))
    with pytest.raises(UserError, match="holds candidates; scores would overwrite them"):
        build(["a"], schema=TableSchema("scores", 1, SCHEMA.arrow))
    assert folder_bytes(Path(build.folder)) == before


def test_a_build_without_tasks_is_refused(build: Build) -> None:
    with pytest.raises(UserError, match="nothing to make"):
        build([])


@pytest.mark.parametrize("damage", ["truncated", "empty", "overwritten", "foreign", "missing"])
def test_a_damaged_shard_is_made_again_and_no_other(build: Build, folder_bytes: FolderBytes, damage: str) -> None:
    build(["a", "b", "c"])
    before = folder_bytes(Path(build.folder))
    for with_manifest in (True, False):
        shard = Path(build.folder, "part-00001.parquet")
        match damage:
            case "truncated":
                shard.write_bytes(shard.read_bytes()[:-20])
            case "empty":
                shard.write_bytes(b"")
            case "overwritten":
                shard.write_bytes(b"\0" * 9999)
            case "foreign":
                pq.write_table(pa.table({"x": [1]}), shard)
            case "missing":
                shard.unlink()
        if not with_manifest:
            Path(build.folder, "_manifest.json").unlink()
        build(["a", "b", "c"])
        assert build.made == [1]
        assert folder_bytes(Path(build.folder)) == before


@pytest.mark.parametrize("with_manifest", [True, False])
def test_other_code_makes_every_shard_again_and_says_before_what_changed_and_how_much(
    build: Build, with_manifest: bool, caplog: pytest.LogCaptureFixture
) -> None:
    build(["a", "b"], code=FIRST)
    if not with_manifest:
        Path(build.folder, "_manifest.json").unlink()
    assert build(["a", "b"], code=SECOND).made == 2
    (message,) = caplog.messages
    assert message.startswith(f"{build.folder}: 2 shards, 6 rows, 0.0 MiB were made by other code")
    assert "changed: sample." in message
    assert "--keep-artifacts" in message
    assert read_manifest(build.folder).kept.shards == 0


@pytest.mark.parametrize("with_manifest", [True, False])
def test_shards_of_other_code_are_kept_on_request_and_the_manifest_records_it(
    build: Build, with_manifest: bool, caplog: pytest.LogCaptureFixture
) -> None:
    build(["a", "b"], code=FIRST)
    if not with_manifest:
        Path(build.folder, "_manifest.json").unlink()
    summary = build(["a", "b", "c"], code=SECOND, keep=True)
    assert (build.made, summary.made, summary.kept) == ([2], 1, 2)
    assert not caplog.messages
    manifest = read_manifest(build.folder)
    assert [shard.code for shard in manifest.shards] == [FIRST.digest, FIRST.digest, SECOND.digest]
    assert (manifest.kept.shards, manifest.kept.changed) == (2, ["sample"])
    assert str(summary).endswith("; 2 shards kept from before a change of sample")

    assert build(["a", "b", "c"], code=SECOND, keep=True).made == 0
    assert read_manifest(build.folder) == manifest
    build(["a", "b", "c"], code=SECOND)
    assert build.made == [0, 1]


def test_what_was_kept_is_recorded_even_where_nothing_is_made(build: Build) -> None:
    build(["a"], code=FIRST)
    assert read_manifest(build.folder).kept.shards == 0
    build(["a"], code=SECOND, keep=True)
    assert read_manifest(build.folder).kept.changed == ["sample"]
    build(["a"], code=FIRST)
    assert build.made == []
    assert read_manifest(build.folder).kept.shards == 0


def test_a_worker_re_makes_its_own_shards_of_other_code_and_keeps_them_on_request(build: Build) -> None:
    build(["a", "b"], code=FIRST)
    assert build(["a", "b"], only=[1], code=SECOND, keep=True).made == 0
    build(["a", "b"], only=[1], code=SECOND)
    assert build.made == [1]
    assert build(["a", "b"], code=SECOND, keep=True).other_code.shards == 1


def test_keeping_what_other_code_made_keeps_nothing_that_other_inputs_made(build: Build) -> None:
    build(["a", "b"], code=FIRST)
    build(["a", "B"], code=SECOND, keep=True)
    assert build.made == [1]


def test_clips_that_fail_among_the_rows_are_quarantined_in_their_order(tmp_path: Path) -> None:
    rows = content(0).rows
    failed = [QuarantinedRow("x", "VideoUnreadable", "no"), QuarantinedRow("y", "VideoUnreadable", "no")]
    mixed = [failed[0], *rows, failed[1]]
    build_dataset(
        str(tmp_path), SCHEMA, parameters={}, inputs={}, tasks=[ShardTask(0, ["a"])],
        code=NO_CODE, make=lambda _: ShardContent(row for row in mixed),
    )  # fmt: skip
    data = Dataset.open(str(tmp_path))
    assert data.num_rows == 3
    assert data.quarantine()["clip_id"].to_pylist() == ["x", "y"]


#: Writes a shard of 320 MiB, a MiB a row, and prints by how many MiB the process has grown at the most.
_LARGE_SHARD = """
import os, resource, sys
from tests.artifacts.builds import LATENT, SCHEMA
from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset

def rows():
    for index in range(320):
        audio = {"bytes": os.urandom(1 << 20), "path": None}
        yield {"clip_id": str(index), "prompt": None, "latent": bytes(LATENT.num_bytes), "audio": audio}

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tasks = [ShardTask(0, ["a"])]
build_dataset(
    sys.argv[1], SCHEMA, parameters={}, inputs={}, tasks=tasks, code=NO_CODE, make=lambda _: ShardContent(rows())
)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_large_shard_is_written_while_it_is_made_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LARGE_SHARD, str(tmp_path / "large")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert Dataset.open(str(tmp_path / "large")).verify() == []
    assert (tmp_path / "large" / "part-00000.parquet").stat().st_size > 320 << 20
    assert grown < 250


def test_a_footer_longer_than_one_read_is_found(tmp_path: Path) -> None:
    failed = [QuarantinedRow(f"clip-{index}", "VideoUnreadable", "m" * 100) for index in range(2000)]
    tasks = [ShardTask(0, ["a"])]

    def run(make: Callable[[int], ShardContent]) -> int:
        return build_dataset(str(tmp_path), SCHEMA, parameters={}, inputs={}, tasks=tasks, code=NO_CODE, make=make).made

    assert run(lambda _: ShardContent(content(0).rows, failed)) == 1
    (tmp_path / "_manifest.json").unlink()
    assert run(lambda _: content(0)) == 0
    assert Dataset.open(str(tmp_path)).quarantine().num_rows == 2000
    assert Dataset.open(str(tmp_path)).verify() == []


def test_workers_that_share_a_folder_leave_what_one_builder_leaves(tmp_path: Path, folder_bytes: FolderBytes) -> None:
    inputs = list("abcdefg")
    Build(tmp_path / "one")(inputs)
    for number, seed in enumerate((1, 2)):
        order = list(range(len(inputs)))
        random.Random(seed).shuffle(order)
        worker = Build(tmp_path / f"many-{number}")
        for part in (order[:3], order[3:5], order[5:]):
            summary = worker(inputs, only=part)
            assert worker.made == part
            assert summary.rows == 3 * len(part)
            with pytest.raises(UserError, match="no finished data set"):
                Dataset.open(worker.folder)
        worker(inputs)
        assert worker.made == []
        assert folder_bytes(tmp_path / f"many-{number}") == folder_bytes(tmp_path / "one")
        assert worker(inputs, only=[2, 3]).kept == 2
        assert worker.made == []


def test_a_worker_does_not_touch_what_other_workers_are_writing(build: Build) -> None:
    folder = Path(build.folder)
    folder.mkdir()
    in_progress = folder / f".part-00000.parquet.{'1' * 32}.partial"
    in_progress.touch()
    build(["a", "b"], only=[0])
    assert in_progress.exists()


def test_a_worker_with_a_stale_shard_unfinishes_the_folder(build: Build) -> None:
    build(["a", "b"])
    build(["a", "b"], only=[0])
    assert Dataset.open(build.folder).num_rows == 6
    build(["a", "B"], only=[1])
    with pytest.raises(UserError, match="no finished data set"):
        Dataset.open(build.folder)


def test_shards_do_not_depend_on_how_rows_are_given(tmp_path: Path, folder_bytes: FolderBytes) -> None:
    def run(folder: str, rows: object) -> dict[str, bytes]:
        build_dataset(
            str(tmp_path / folder),
            SCHEMA,
            parameters={},
            inputs={},
            tasks=[ShardTask(0, [])],
            code=NO_CODE,
            make=lambda _: ShardContent(rows),  # type: ignore[arg-type]
        )
        return folder_bytes(tmp_path / folder)

    rows = content(0).rows
    table = pa.Table.from_pylist(rows, schema=SCHEMA.arrow)
    shuffled = table.select(list(reversed(table.schema.names))).replace_schema_metadata({"note": "x"})
    as_rows = run("rows", rows)
    assert run("table", table) == as_rows
    assert run("chunks", pa.concat_tables([table.slice(0, 1), table.slice(1)])) == as_rows
    assert run("shuffled", shuffled) == as_rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("prompt"), "has the fields"),
        (lambda row: row.update(promt="x"), "has the fields"),
        (lambda row: row.update(clip_id=None), "clip_id of candidates has nulls"),
        (lambda row: row.update(latent=b"short"), "length 24"),
    ],
)
def test_rows_that_do_not_fit_the_schema_are_refused_and_nothing_is_written(
    tmp_path: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    rows = [dict(row) for row in content(0).rows]  # type: ignore[arg-type]
    change(rows[1])
    with pytest.raises((ValueError, pa.ArrowInvalid), match=message):
        build_dataset(
            str(tmp_path),
            SCHEMA,
            parameters={},
            inputs={},
            tasks=[ShardTask(0, [])],
            code=NO_CODE,
            make=lambda _: ShardContent(rows),
        )
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_quarantined_clip_may_hold_a_path_that_is_no_unicode(tmp_path: Path) -> None:
    row = QuarantinedRow.of("clip", OSError("cannot read 'caf\udce9.mp4'"))
    build_dataset(
        str(tmp_path),
        SCHEMA,
        parameters={},
        inputs={},
        tasks=[ShardTask(0, [])],
        code=NO_CODE,
        make=lambda _: ShardContent([], [row]),
    )
    dataset = Dataset.open(str(tmp_path))
    assert dataset.quarantine().to_pylist() == [
        {"clip_id": "clip", "error": "OSError", "message": "cannot read 'caf?.mp4'"}
    ]
    assert dataset.num_rows == 0
    assert tensor_column(dataset.table(), "latent").shape == (0, *LATENT.shape)


def test_progress_ends_at_the_number_of_shards(tmp_path: Path) -> None:
    for _ in range(2):
        calls: list[tuple[int, int]] = []
        build_dataset(
            str(tmp_path),
            SCHEMA,
            parameters={},
            inputs={},
            tasks=[ShardTask(index, []) for index in range(3)],
            code=NO_CODE,
            make=content,
            progress=lambda done, total, calls=calls: calls.append((done, total)),  # type: ignore[misc]
        )
        assert calls[-1] == (3, 3)
