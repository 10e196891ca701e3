"""What S3 refuses is told with its true cause and a remedy, by every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import moto.settings
import pytest
from moto.core.responses import ActionAuthenticatorMixin
from s3fs import S3FileSystem

from tests.loopback import LoopbackServer, QuietHandler
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import exists, file_sizes, open_input, read_bytes, remove, tree_names, write_atomically
from v2a_dpo.artifacts.transfer import fetch_file, send_file
from v2a_dpo.errors import UserError
from v2a_dpo.media.container import open_media

Operation = Callable[[str, Path], Any]


def opened(uri: str, _: Path) -> None:
    with open_input(uri):
        pass


def played(uri: str, _: Path) -> None:
    with open_media(uri):
        pass


def copied(uri: str, _: Path) -> None:
    with local_copy(uri):
        pass


OPERATIONS: dict[str, Operation] = {
    "read_bytes": lambda uri, _: read_bytes(uri),
    "open_input": opened,
    "open_media": played,
    "fetch_file": lambda uri, folder: fetch_file(uri, folder / "fetched"),
    "write_atomically": lambda uri, _: write_atomically(uri, b"x"),
    "send_file": lambda uri, folder: send_file(folder / "sent", uri),
    "file_sizes": lambda uri, _: file_sizes(uri),
    "tree_names": lambda uri, _: tree_names(uri),
    "local_copy": copied,
    "exists": lambda uri, _: exists(uri),
    "remove": lambda uri, _: remove(uri),
}
RIGHTS = {
    **dict.fromkeys(("read_bytes", "open_input", "open_media", "fetch_file"), "s3:GetObject"),
    **dict.fromkeys(("write_atomically", "send_file"), "s3:PutObject"),
    **dict.fromkeys(("file_sizes", "tree_names", "local_copy", "exists"), "s3:ListBucket"),
    "remove": "s3:DeleteObject",
}


def refusal(name: str, uri: str, folder: Path) -> UserError:
    """What the operation says; nothing of it is left in the folder."""
    (folder / "sent").write_bytes(b"content")
    with pytest.raises(UserError) as caught:
        OPERATIONS[name](uri, folder)
    assert caught.value.where == uri, name
    assert [item.name for item in folder.iterdir()] == ["sent"], name
    return caught.value


def forget_connections() -> None:
    """No connection outlives the credentials that it was made with."""
    boto3.DEFAULT_SESSION = None
    S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def new_connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path.parent / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_connections()
    yield
    forget_connections()


@pytest.fixture
def guarded(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an object on a server that looks at credentials."""
    write_atomically(f"{bucket}/model/config.json", b"{}")
    look_at_credentials(monkeypatch)
    return f"{bucket}/model/config.json"


def look_at_credentials(monkeypatch: pytest.MonkeyPatch, *, after: float = 0) -> None:
    """Lets the server look at credentials from the request on that comes `after` so many."""
    monkeypatch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", after)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    forget_connections()


def test_a_missing_bucket_is_no_missing_file_and_no_empty_folder(
    s3_environment: None, s3_endpoint: str, tmp_path: Path
) -> None:
    for name in OPERATIONS:
        told = refusal(name, "s3://no-such-bucket/folder/file", tmp_path)
        assert told.what.endswith(f"the S3 service at {s3_endpoint} has no bucket no-such-bucket."), name
        assert "create the bucket" in told.remedy


def test_credentials_that_the_service_does_not_know_are_named(guarded: str, tmp_path: Path) -> None:
    for name in OPERATIONS:
        told = refusal(name, guarded, tmp_path)
        assert told.what.endswith("the S3 service does not accept these credentials."), name
        assert "AWS_ACCESS_KEY_ID" in told.remedy


def test_a_user_without_the_right_is_told_which_right_is_missing(
    guarded: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at_credentials(monkeypatch, after=2)
    iam = boto3.client("iam", endpoint_url=s3_endpoint)
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    look_at_credentials(monkeypatch)
    for name in OPERATIONS:
        told = refusal(name, guarded, tmp_path)
        assert told.what.endswith("these S3 credentials do not permit that."), name
        assert RIGHTS[name] in told.remedy, name


def test_missing_credentials_are_no_network_failure(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget_connections()
    for name in OPERATIONS:
        told = refusal(name, f"{bucket}/file", tmp_path)
        assert "the S3 credentials are missing" in told.what, name
        assert "AWS_PROFILE" in told.remedy


class Answers(QuietHandler):
    """An S3 service that refuses all with one status and code; as HTTP has it, an answer to HEAD has no body."""

    protocol_version = "HTTP/1.1"  # clients wait for leave to send a body
    status, code = 400, "ExpiredToken"

    def refuse(self) -> None:
        self.body()
        told = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>no</Message></Error>"
        self.reply(self.status, b"" if self.command == "HEAD" else told.encode(), "application/xml")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = refuse


@pytest.mark.parametrize(
    ("status", "code", "cause", "remedy"),
    [
        (400, "ExpiredToken", "the S3 credentials have expired", "AWS_SESSION_TOKEN"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong", "clock"),
        (507, "XMinioStorageFull", "the storage of the S3 service is full", "space"),
    ],
)
def test_s3s_own_reason_is_told_also_where_its_answer_has_no_words(
    s3_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    status: int, code: str, cause: str, remedy: str,
) -> None:  # fmt: skip
    answers = type("Answers", (Answers,), {"status": status, "code": code})
    with LoopbackServer(answers) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for name in ("exists", "fetch_file", "file_sizes", "write_atomically", "open_media"):
            told = refusal(name, "s3://bucket/file", tmp_path)
            assert cause in told.what, name
            assert remedy in told.remedy, name


def test_an_endpoint_without_a_scheme_is_named(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(UserError, match="not a web address: localhost:9000") as caught:
        read_bytes("s3://bucket/file")
    assert caught.value.where == "AWS_ENDPOINT_URL"
