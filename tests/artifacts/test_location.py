from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from v2a_dpo.artifacts.location import (
    exists,
    file_sizes,
    is_remote,
    list_names,
    local_path,
    open_input,
    read_bytes,
    remove,
    reported,
    tree_names,
    write_atomically,
)
from v2a_dpo.errors import UserError


@pytest.mark.parametrize("name", ["plain", "a space", "a::b", "~", "ü-日本", "100%", "a#b?c=d", "[x]*", "s3:odd"])
def test_any_local_name_is_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (name, str(tmp_path / name / "deep"), f"file://{tmp_path}/{name}/uri"):
        uri = f"{folder}/data.bin"
        write_atomically(uri, b"one")
        write_atomically(uri, b"two!")
        assert local_path(uri).read_bytes() == b"two!"
        assert read_bytes(uri) == b"two!"
        assert exists(uri)
        assert file_sizes(folder) == {"data.bin": 4}
        with open_input(uri) as file:
            assert file.read(2) == b"tw"
    assert tree_names(tmp_path) == sorted(f"{name}/{inner}data.bin" for inner in ("", "deep/", "uri/"))
    remove(f"{name}/data.bin")
    assert not (tmp_path / name / "data.bin").exists()


def test_only_uris_are_remote() -> None:
    assert is_remote("s3://bucket/key")
    assert not is_remote("file:///a/b")
    assert not is_remote(Path("a/b"))


def test_a_missing_folder_is_empty_and_removing_a_missing_file_is_no_error(tmp_path: Path) -> None:
    assert list_names(tmp_path / "absent") == []
    assert not exists(tmp_path / "absent")
    remove(tmp_path / "absent" / "file")


def test_a_listing_shows_linked_files_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"12345")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "b").symlink_to(tmp_path / "cache")
    (folder / "a").touch()
    (folder / "dangling").symlink_to(tmp_path / "absent")
    assert file_sizes(folder) == {"a": 0, "b": 5}


def test_reading_what_is_not_there_names_the_file(tmp_path: Path) -> None:
    for read in (read_bytes, lambda uri: open_input(uri).__enter__()):
        with pytest.raises(UserError, match="does not exist") as caught:
            read(tmp_path / "absent")
        assert str(tmp_path / "absent") in str(caught.value)


def test_writing_below_a_file_is_the_users_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "data", b"x")
    with pytest.raises(UserError, match="cannot be listed"):
        list_names(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()  # a rename onto a folder fails after the content was written
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "data", b"x")
    assert os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("number", "cause", "remedy"),
    [
        (errno.ENOSPC, "the disk is full", "df -h"),
        (errno.EROFS, "the file system is read-only", "another place"),
        (errno.EACCES, "permission denied", "ls -l"),
        (errno.EMFILE, "too many files are open", "ulimit -n"),
    ],
)
def test_what_the_operating_system_refuses_is_told_with_its_cause(number: int, cause: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught, reported("written", "out/data"):
        raise OSError(number, os.strerror(number), "out/.data.partial")
    assert caught.value.what == f"This cannot be written: {cause} (out/.data.partial)."
    assert caught.value.where == "out/data"
    assert remedy in caught.value.remedy


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="there is a file where a folder is needed") as caught:
        write_atomically(tmp_path / "out" / "data", b"x")
    assert str(tmp_path / "out") in caught.value.what


def test_an_unknown_scheme_is_the_users_error() -> None:
    with pytest.raises(UserError, match="Cannot open this location"):
        read_bytes("nosuchscheme://bucket/key")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.slow
def test_an_unreachable_s3_is_the_users_error_wherever_it_shows(
    s3_environment: None, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    uri = "s3://bucket/folder/file"
    for operation in (list_names, lambda uri: write_atomically(uri, b"x")):
        with pytest.raises(UserError, match="AWS_ENDPOINT_URL") as caught:
            operation(uri)
        assert str(closed_port) in str(caught.value)
        assert uri in str(caught.value)


def test_a_bucket_that_does_not_exist_cannot_be_written(s3_environment: None) -> None:
    with pytest.raises(UserError, match=r"cannot be written: .* has no bucket no-such-bucket-here"):
        write_atomically("s3://no-such-bucket-here/file", b"x")
