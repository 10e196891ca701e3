"""Downloads against a real server that breaks off, changes its file, refuses, or knows no ranges."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.weights.download import Patience, download

CONTENT = random.Random(0).randbytes(3_000_000)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "file.pth"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole_and_alone(server, target, patience):
    server.content = CONTENT
    seen = []
    download(server.url(), target, progress=lambda done, total: seen.append((done, total)), patience=patience)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.pth"]
    assert seen[-1] == (3, 3)
    assert server.asked == [None]


def test_a_broken_connection_goes_on_where_it_broke(server, target, patience):
    server.content, server.breaks = CONTENT, [1_000_000, 500_000]
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_progress_resets_the_count_of_failures(server, target):
    server.content, server.breaks = CONTENT, [100_000] * 6
    download(server.url(), target, patience=Patience(timeout_s=5.0, attempts=2, pause_s=0.001))
    assert target.read_bytes() == CONTENT


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, target):
    server.content, server.breaks = CONTENT, [1_000_000]
    with pytest.raises(UserError, match="failed 1 times"):
        download(server.url(), target, patience=Patience(attempts=1, pause_s=0.001))
    assert not target.exists()
    download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=1000000-"


def test_a_killed_download_goes_on(server, target):
    server.content = CONTENT * 40
    code = (
        "import sys, pathlib; from v2a_dpo.weights.download import download\n"
        "import time\n"
        "download(sys.argv[1], pathlib.Path(sys.argv[2]), progress=lambda done, total: time.sleep(0.05))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url(), str(target)])
    partial = target.with_name("file.pth.partial")
    while not (partial.exists() and partial.stat().st_size > 2_000_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = partial.stat().st_size
    assert not target.exists()
    download(server.url(), target)
    assert target.read_bytes() == server.content
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_file_that_changed_on_the_server_starts_anew(server, target, patience):
    server.content, server.breaks = CONTENT, [1_000_000]
    with pytest.raises(UserError):
        download(server.url(), target, patience=Patience(attempts=1, pause_s=0.001))
    server.content, server.tag = CONTENT[::-1], '"2"'
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", [None, 'W/"1"'])
def test_without_a_strong_tag_a_broken_download_starts_anew(server, target, patience, tag):
    server.content, server.breaks, server.tag = CONTENT, [1_000_000], tag
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_a_server_without_ranges_sends_all_again(server, target, patience):
    server.content, server.breaks, server.ranges = CONTENT, [1_000_000], False
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT


def test_a_download_killed_after_its_last_byte_is_finished_without_a_transfer(server, target, patience):
    server.content = CONTENT
    download(server.url(), target, patience=patience)
    target.rename(target.with_name("file.pth.partial"))
    target.with_name("file.pth.partial.tag").write_text('"\\"1\\""')
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={len(CONTENT)}-"


def test_a_part_longer_than_the_file_is_thrown_away(server, target, patience):
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.pth.partial").write_bytes(CONTENT + b"more")
    target.with_name("file.pth.partial.tag").write_text('"\\"1\\""')
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, target, patience):
    server.content, server.errors = CONTENT, [503, 429]
    download(server.url(), target, patience=patience)
    assert target.read_bytes() == CONTENT


def test_a_refusal_is_final_and_names_the_address(server, target, patience):
    server.errors = [404]
    with pytest.raises(UserError, match="404") as caught:
        download(server.url("gone.pth"), target, patience=patience)
    assert caught.value.where == server.url("gone.pth")
    assert "weights import" in caught.value.remedy
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_given_up(target, patience):
    with pytest.raises(UserError, match="failed 3 times"):
        download("http://127.0.0.1:9/file", target, patience=patience)
    assert not target.exists()


def test_other_schemes_are_refused(tmp_path, target):
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(UserError, match="http"):
        download(secret.as_uri(), target)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, server, patience):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        download(server.url(), tmp_path / "file" / "target", patience=patience)
