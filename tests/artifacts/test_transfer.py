"""Large files against a real S3 server: cut off, continued, damaged, replaced by somebody else."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import boto3
import botocore.client
import pytest
from moto.s3.models import s3_backends

from v2a_dpo.artifacts.folder import local_copy, new_folder
from v2a_dpo.artifacts.transfer import fetch_file, send_file, whole_file
from v2a_dpo.errors import UserError

STEP = 5 * 2**20  # the least that S3 takes


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(0).randbytes(4 * STEP + 1234)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """S3 operations by name, while they are called."""
    counted: Counter[str] = Counter()
    original = botocore.client.BaseClient._make_api_call

    def call(self, operation_name, api_params):
        counted[operation_name] += 1
        return original(self, operation_name, api_params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    return counted


def damage(uri: str, change: Callable[[bytearray], None]) -> None:
    """Changes the stored bytes of an object behind the server's back."""
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    key = s3_backends["123456789012"]["global"].buckets[bucket].keys[name]
    stored = bytearray(key.value)
    change(stored)
    key._value_buffer.seek(0)
    key._value_buffer.truncate()
    key._value_buffer.write(bytes(stored))


def flip(stored: bytearray) -> None:
    stored[len(stored) // 2] ^= 1


@pytest.mark.parametrize("size", [0, 1, STEP, STEP + 1, 4 * STEP + 1234])
def test_a_file_arrives_as_it_was_sent(bucket: str, tmp_path: Path, content: bytes, size: int) -> None:
    (tmp_path / "sent").write_bytes(content[:size])
    send_file(tmp_path / "sent", f"{bucket}/a/ö b", part_bytes=STEP)
    fetch_file(f"{bucket}/a/ö b", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content[:size]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched", "sent"]


def test_a_killed_upload_leaves_no_object_and_the_next_one_goes_on(
    bucket: str, file: Path, content: bytes, calls: Counter[str], tmp_path: Path
) -> None:
    uri = f"{bucket}/model.safetensors"
    client = boto3.client("s3")
    code = (
        "import sys, time; from pathlib import Path; import v2a_dpo.artifacts.transfer as transfer\n"
        "send = transfer._content\n"
        "def slowly(file, number, step):\n"
        "    time.sleep(0 if number <= 2 else 60)\n"
        "    return send(file, number, step)\n"
        "transfer._content = slowly\n"
        f"transfer.send_file(Path(sys.argv[1]), sys.argv[2], part_bytes={STEP})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file), uri], env=os.environ)
    deadline = time.monotonic() + 60
    parts: list[object] = []
    while len(parts) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        uploads = client.list_multipart_uploads(Bucket=bucket[5:]).get("Uploads", [])
        if uploads:
            upload = {"Bucket": bucket[5:], "Key": "model.safetensors", "UploadId": uploads[0]["UploadId"]}
            parts = client.list_parts(**upload).get("Parts", [])
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(parts) == 2
    with pytest.raises(UserError, match="does not exist"):
        fetch_file(uri, tmp_path / "fetched")
    calls.clear()
    send_file(file, uri, part_bytes=STEP)
    assert (calls["CreateMultipartUpload"], calls["UploadPart"]) == (0, 3)
    fetch_file(uri, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket[5:])


def test_parts_of_another_content_are_sent_anew(bucket: str, file: Path, content: bytes, tmp_path: Path) -> None:
    client, place = boto3.client("s3"), {"Bucket": bucket[5:], "Key": "model.safetensors"}
    upload = client.create_multipart_upload(**place)["UploadId"]
    client.upload_part(**place, UploadId=upload, PartNumber=1, Body=content[1 : STEP + 1])
    send_file(file, f"{bucket}/model.safetensors", part_bytes=STEP)
    fetch_file(f"{bucket}/model.safetensors", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content


@pytest.mark.parametrize("part_bytes", [STEP, 8 * STEP])
def test_a_damaged_object_is_refused_and_leaves_no_file(
    bucket: str, file: Path, tmp_path: Path, part_bytes: int
) -> None:
    uri = f"{bucket}/model.safetensors"
    send_file(file, uri, part_bytes=part_bytes)
    damage(uri, flip)
    with pytest.raises(UserError, match="checksums differ") as caught:
        fetch_file(uri, tmp_path / "fetched")
    assert uri in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_stopped_fetch_goes_on_and_a_damaged_beginning_is_fetched_again(
    bucket: str, file: Path, content: bytes, tmp_path: Path, calls: Counter[str]
) -> None:
    uri, target = f"{bucket}/model.safetensors", tmp_path / "fetched"
    send_file(file, uri, part_bytes=STEP)
    etag = boto3.client("s3").head_object(Bucket=bucket[5:], Key="model.safetensors")["ETag"].strip('"')
    partial = tmp_path / f".fetched.{etag}.partial"
    for begun, requests in ((content[: 2 * STEP + 99], 3), (bytes(2 * STEP), 3 + 5)):
        partial.write_bytes(begun)
        (tmp_path / ".fetched.another.partial").touch()
        calls.clear()
        fetch_file(uri, target)
        assert target.read_bytes() == content
        assert calls["GetObject"] == requests
        assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched", "model.safetensors"]


def test_an_object_that_other_tools_stored_is_read(bucket: str, file: Path, content: bytes, tmp_path: Path) -> None:
    boto3.client("s3").upload_file(str(file), bucket[5:], "other")
    fetch_file(f"{bucket}/other", tmp_path / "fetched", part_bytes=STEP)
    assert (tmp_path / "fetched").read_bytes() == content


def test_a_model_folder_on_s3_is_whole_or_refused(bucket: str, content: bytes) -> None:
    with new_folder(f"{bucket}/model") as folder:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(content)
    with local_copy(f"{bucket}/model") as copy:
        assert (copy / "model.safetensors").read_bytes() == content
    damage(f"{bucket}/model/model.safetensors", flip)
    with pytest.raises(UserError, match="checksums differ"), local_copy(f"{bucket}/model"):
        pass


def test_a_disk_that_fills_up_at_the_last_bytes_is_the_users_error(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"), whole_file(str(tmp_path / "new")) as file:
            file.write(b"x" * 1000)  # waits in the buffer until the block ends
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_the_users_error(s3_environment: None, file: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        send_file(file, "s3://no-such-bucket-here/file", part_bytes=STEP)
