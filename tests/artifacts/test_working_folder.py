"""Folders of many files that a stage fills: what the same parameters made is kept, locally and on S3."""

import boto3
import pytest

from v2a_dpo.artifacts.code import NO_CODE, Code
from v2a_dpo.artifacts.folder import working_folder
from v2a_dpo.artifacts.location import read_bytes, tree_names, write_atomically
from v2a_dpo.errors import UserError


@pytest.fixture(params=["local", "s3"])
def uri(request, tmp_path):
    return str(tmp_path / "made") if request.param == "local" else f"{request.getfixturevalue('bucket')}/made"


def fill(uri, made_with, *, code=NO_CODE, keep=False, **files):
    """The names that were there before `files` (name -> text) were written."""
    with working_folder(uri, made_with, code=code, keep=keep) as folder:
        before = sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        for name, text in files.items():
            (folder / "inner").mkdir(exist_ok=True)
            (folder / "inner" / name).write_text(text)
    return before


def test_what_the_same_parameters_made_is_there_again(uri):
    assert fill(uri, "a", one="1", two="2") == []
    assert fill(uri, "a", three="3") == ["one", "two"]
    assert tree_names(uri) == ["inner/one", "inner/three", "inner/two"]
    assert read_bytes(f"{uri}/inner/one") == b"1"


def test_what_other_parameters_made_is_cleared_away(uri):
    fill(uri, "a", one="1")
    assert fill(uri, "b", two="2") == []
    assert tree_names(uri) == ["inner/two"]


def test_what_other_code_made_is_cleared_away_with_a_word_or_kept_on_request(uri, caplog):
    first, second = Code({"render": "1"}), Code({"render": "2"})
    fill(uri, "a", code=first, one="1")
    assert fill(uri, "a", code=second, keep=True) == ["one"]
    assert "other code" not in caplog.text
    assert fill(uri, "a", code=first) == ["one"]  # it is still known who made it
    assert fill(uri, "a", code=second) == []
    assert "changed: render" in caplog.text


def test_nothing_of_a_failed_stage_reaches_s3(bucket):
    uri = f"{bucket}/made"

    def half_of_it():
        with working_folder(uri, "a") as folder:
            (folder / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_of_it()
    assert tree_names(uri) == []


def test_nobodys_other_files_are_touched(uri):
    write_atomically(f"{uri}/precious", b"mine")
    with pytest.raises(UserError, match="no stage made it"), working_folder(uri, "a"):
        pass
    assert read_bytes(f"{uri}/precious") == b"mine"


def test_a_prefix_with_nothing_but_a_consoles_folder_marker_is_empty(bucket):
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="made/", Body=b"")
    assert fill(f"{bucket}/made", "a", one="1") == []
    assert tree_names(f"{bucket}/made") == ["inner/one"]
