"""The same data sets on a real S3 server."""

from __future__ import annotations

import copy
import runpy
from collections import Counter
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from s3fs import S3FileSystem

from tests.artifacts.builds import SCHEMA, Build
from v2a_dpo.artifacts import s3
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import content_probe, file_checksum, folder_fingerprint
from v2a_dpo.artifacts.location import exists, file_sizes, list_names, read_bytes, remove, tree_names, write_atomically
from v2a_dpo.errors import UserError


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each S3 operation was asked for."""
    counts: Counter[str] = Counter()
    real = S3FileSystem._call_s3

    async def counted(self: S3FileSystem, method: str, *arguments: object, **named: object) -> object:
        counts[method] += 1
        return await real(self, method, *arguments, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return counts


def test_a_connection_leaves_its_settings_as_they_are_so_that_the_next_call_takes_it_again(bucket: str) -> None:
    settings = runpy.run_path(s3.__file__)["S3_CONFIG"]  # those of a process without a connection
    before = copy.deepcopy(settings)
    boto3.client("s3", config=Config(**settings)).list_buckets()
    assert settings == before


def test_a_data_set_on_s3_equals_the_local_one(bucket: str, tmp_path: Path) -> None:
    inputs = ["a", "b", "c"]
    Build(tmp_path)(inputs)
    remote = Build(f"{bucket}/some folder/candidates")
    assert remote(inputs).made == 3
    local, on_s3 = Dataset.open(str(tmp_path)), Dataset.open(remote.folder, SCHEMA)
    assert on_s3.manifest == local.manifest
    for name in list_names(tmp_path):
        assert read_bytes(f"{remote.folder}/{name}") == (tmp_path / name).read_bytes()
    assert on_s3.table(["clip_id", "latent"]).equals(local.table(["clip_id", "latent"]))
    assert on_s3.quarantine().equals(local.quarantine())
    assert on_s3.verify() == []


def test_stale_and_superfluous_shards_on_s3_are_replaced_and_removed(bucket: str) -> None:
    build = Build(f"{bucket}/data")
    build(["a", "b", "c"])
    assert build(["a", "B"]).made == 1
    assert build.made == [1]
    assert list_names(build.folder) == [
        "_manifest.json",
        "_quarantine.parquet",
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    write_atomically(f"{build.folder}/part-00000.parquet", b"damaged")
    build(["a", "B"])
    assert build.made == [0]


@pytest.mark.slow
def test_many_workers_fill_one_prefix_and_the_finisher_reads_no_data(bucket: str, requests: Counter[str]) -> None:
    inputs = [str(index) for index in range(20)]
    build = Build(f"{bucket}/data")
    for first in range(5):
        build(inputs, only=list(range(first, 20, 5)))
    requests.clear()
    build(inputs)
    assert build.made == []
    assert requests["list_objects_v2"] <= 2
    assert requests["get_object"] <= len(inputs)
    assert Dataset.open(build.folder).num_rows == 60


def test_a_finished_prefix_is_recognised_by_a_few_requests_however_many_shards_it_has(
    bucket: str, requests: Counter[str]
) -> None:
    inputs = [str(index) for index in range(20)]
    build = Build(f"{bucket}/data")
    build(inputs)
    requests.clear()
    assert build(inputs).kept == 20
    assert sum(requests.values()) <= 8
    assert requests["put_object"] == 0


def test_a_model_folder_and_a_video_on_s3_have_the_fingerprints_of_their_local_copies(
    bucket: str, tmp_path: Path
) -> None:
    for name, content in {"config.json": b"{}", "clap/model.safetensors": b"w" * 200_000}.items():
        for folder in (bucket, str(tmp_path)):
            write_atomically(f"{folder}/model/{name}", content)
    assert tree_names(f"{bucket}/model") == ["clap/model.safetensors", "config.json"]
    assert folder_fingerprint(f"{bucket}/model") == folder_fingerprint(tmp_path / "model")
    file = "model/clap/model.safetensors"
    assert file_checksum(f"{bucket}/{file}") == file_checksum(tmp_path / file)
    assert content_probe(f"{bucket}/{file}") == content_probe(tmp_path / file)


def test_the_empty_objects_that_consoles_make_for_folders_are_no_files(bucket: str, tmp_path: Path) -> None:
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    for key in ("model/", "model/clap/", "model/empty/", "model/config.json", "model/clap/model.safetensors", "alone/"):
        client.put_object(Bucket=name, Key=key, Body=b"" if key.endswith("/") else b"{}")
    for folder in (f"{bucket}/model", f"{bucket}/model/"):
        assert file_sizes(folder) == {"config.json": 2}
        assert tree_names(folder) == ["clap/model.safetensors", "config.json"]
    assert list_names(f"{bucket}/alone") == []
    assert tree_names(f"{bucket}/alone") == []
    (tmp_path / "model" / "clap").mkdir(parents=True)
    for file in ("config.json", "clap/model.safetensors"):
        (tmp_path / "model" / file).write_bytes(b"{}")
    assert folder_fingerprint(f"{bucket}/model") == folder_fingerprint(tmp_path / "model")


def test_missing_things_on_s3_are_told_as_locally(bucket: str) -> None:
    assert list_names(f"{bucket}/absent") == []
    assert not exists(f"{bucket}/absent")
    remove(f"{bucket}/absent")
    with pytest.raises(UserError, match="does not exist"):
        read_bytes(f"{bucket}/absent")
    with pytest.raises(UserError, match="no finished data set"):
        Dataset.open(f"{bucket}/absent")
    with pytest.raises(UserError, match="does not exist or is empty"):
        folder_fingerprint(f"{bucket}/absent")
