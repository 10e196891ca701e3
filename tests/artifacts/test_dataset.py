from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tests.artifacts.builds import LATENT, SCHEMA, Build, content
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import CLIPS, TensorType, tensor_column, tensor_type
from v2a_dpo.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Build(tmp_path / "candidates")(["a", "b", "c"])
    return tmp_path / "candidates"


def test_rows_come_back_in_order_and_as_they_were(folder: Path) -> None:
    dataset = Dataset.open(str(folder), SCHEMA)
    expected = [row for index in range(3) for row in content(index).rows]
    assert dataset.table().to_pylist() == expected
    assert [table.num_rows for table in dataset.tables()] == [3, 3, 3]
    latents = tensor_column(dataset.table(["latent"]), "latent")
    assert latents.tobytes() == b"".join(row["latent"] for row in expected)  # type: ignore[call-overload]
    assert latents.shape == (9, *LATENT.shape)
    assert latents.dtype == np.float16


def test_only_the_columns_asked_for_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(str(folder))
    entry = dataset.shards[0]
    shard = folder / entry.name
    whole = bytearray(shard.read_bytes())
    audio = content(0).rows[0]["audio"]["bytes"]  # type: ignore[index]
    start = whole.index(audio[:16])
    whole[start : start + 16] = bytes(16)
    shard.write_bytes(whole)

    assert dataset.shard(entry, ["prompt", "clip_id"]).column("prompt").to_pylist() == ["a drum", None, "a drum"]
    with pytest.raises(UserError, match="damaged") as caught:
        dataset.shard(entry, ["audio"])
    assert str(shard) in str(caught.value)
    assert "only this shard is re-made" in str(caught.value)
    assert dataset.verify() == [entry.name]

    shard.unlink()
    rebuilt = Build(folder)
    rebuilt(["a", "b", "c"])
    assert rebuilt.made == [0]
    assert Dataset.open(str(folder)).verify() == []


def test_an_unknown_column_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no column caption, score; it has clip_id, prompt, latent, audio"):
        Dataset.open(str(folder)).table(["clip_id", "score", "caption"])


def test_a_missing_or_truncated_shard_is_the_users_error(folder: Path) -> None:
    dataset = Dataset.open(str(folder))
    (folder / "part-00001.parquet").unlink()
    truncated = folder / "part-00002.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-9])
    with pytest.raises(UserError, match="does not exist"):
        dataset.shard(dataset.shards[1])
    with pytest.raises(UserError, match="damaged"):
        dataset.shard(dataset.shards[2])
    assert dataset.verify() == ["part-00001.parquet", "part-00002.parquet"]


def test_a_folder_of_another_kind_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(UserError, match="holds candidates, but clips are needed"):
        Dataset.open(str(folder), CLIPS)
    with pytest.raises(UserError, match="holds candidates, but pairs are needed"):
        Dataset.open(str(folder), "pairs")


@pytest.mark.parametrize("text", ["", "{}", "{", '{"schema_name": 3}'])
def test_a_manifest_that_is_not_ours_is_refused(folder: Path, text: str) -> None:
    (folder / "_manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest is damaged or of another version"):
        Dataset.open(str(folder))


def test_quarantined_clips_are_listed_with_their_errors(folder: Path) -> None:
    dataset = Dataset.open(str(folder))
    assert dataset.quarantine().to_pylist() == [
        {"clip_id": "clip-1-bad", "error": "ValueError", "message": "no frames"}
    ]
    assert dataset.manifest.quarantined == 1


def test_the_fingerprint_is_that_of_the_content_alone(tmp_path: Path, folder: Path) -> None:
    same_content = Build(tmp_path / "made from other things")
    same_content(["x", "y", "z"], parameters={"steps": 1}, upstream="v")
    assert Dataset.open(same_content.folder).fingerprint == Dataset.open(str(folder)).fingerprint
    fewer = Build(tmp_path / "fewer")
    fewer(["a", "b"])
    assert Dataset.open(fewer.folder).fingerprint != Dataset.open(str(folder)).fingerprint


def test_any_parquet_reader_finds_plain_audio_structs_and_typed_tensors(folder: Path) -> None:
    parts = sorted(folder.glob("part-*.parquet"))
    table = pa.dataset.dataset([str(part) for part in parts], format="parquet").to_table()
    audio = table.column("audio").to_pylist()
    assert audio[0] == content(0).rows[0]["audio"]  # type: ignore[index]
    assert set(audio[0]) == {"bytes", "path"}
    assert tensor_type(pq.read_schema(parts[0]).field("latent")) == TensorType("float16", (4, 3))


def test_the_manifest_is_json_with_counts_and_checksums(folder: Path) -> None:
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 3, 3]
    assert [shard["num_bytes"] for shard in manifest["shards"]] == [
        part.stat().st_size for part in sorted(folder.glob("part-*"))
    ]
    assert manifest["inputs"] == {"clips": "u"}
    assert set(manifest["software"]) == {"v2a-dpo", "torch", "pyarrow", "av"}
