from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from v2a_dpo.artifacts.layout import SPLITS
from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.cli.main import app
from v2a_dpo.config import Params
from v2a_dpo.data.captions import read_clips
from v2a_dpo.data.vggsound.lists import read_official_list
from v2a_dpo.errors import UserError
from v2a_dpo.media.video_files import VideoFolder
from v2a_dpo.stages.vggsound import vggsound

PARAMS = Params.model_validate(
    {"vggsound": {"annotation_clips": 20, "preference_clips": 100, "annotation_share": 0.25}}
)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tables(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def clip_ids(listing: Path) -> list[str]:
    return [clip.clip_id for clip in read_official_list(str(listing)).clips]


@pytest.fixture
def folder(tmp_path: Path, clip_ids: list[str]) -> Path:
    """Every clip but every twentieth, in folders, beside files that are none."""
    folder = tmp_path / "my vidéos"
    for n, clip_id in enumerate(clip_ids):
        if n % 20:
            path = folder / f"{n % 3}" / f"{clip_id}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clip_id.encode())
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def archives(tmp_path: Path, folder: Path) -> Path:
    """The same clips in four archives, two of them compressed, with folders in front of the names."""
    target = tmp_path / "archives"
    target.mkdir()
    files = sorted(folder.rglob("*.mp4"))
    for n, suffix in enumerate(("tar", "tar.gz", "tgz", "tar")):
        with tarfile.open(target / f"vggsound_{n:02d}.{suffix}", "w" if suffix == "tar" else "w:gz") as tar:
            for file in files[n::4]:
                tar.add(file, arcname=f"scratch/video/{file.name}")
    return target


def test_the_tables_are_what_prepare_reads(listing: Path, folder: Path, tmp_path: Path) -> None:
    summary = vggsound(PARAMS, listing=str(listing), videos=str(folder), output=str(tmp_path / "splits"))
    seen: set[str] = set()
    for name, wanted in zip(SPLITS, (20, 100, 95), strict=True):
        clips = read_clips(VideoFolder(str(folder)), str(tmp_path / "splits" / f"{name}.csv"), split=name)
        assert len(clips) == wanted == summary.splits[name].clips
        for clip in clips:
            assert Path(clip.video).read_bytes() == clip.clip_id.encode()
            assert clip.prompt == clip.label
            assert clip.has_speech == (clip.label == "child speech, kid speaking")
        assert not seen & {clip.clip_id[:11] for clip in clips}
        seen |= {clip.clip_id[:11] for clip in clips}
    assert summary.splits["test"].planned == 100


def test_missing_videos_are_counted_and_named(listing: Path, folder: Path, tmp_path: Path, clip_ids: list[str]) -> None:
    summary = vggsound(PARAMS, listing=str(listing), videos=str(folder), output=str(tmp_path / "splits"))
    named = rows(tmp_path / "splits" / "missing.csv")
    assert [row["clip_id"] for row in named] == clip_ids[::20]
    assert {row["official_split"] for row in named} == {"train", "test"}
    assert "50 of 1,000 listed videos are missing" in str(summary)
    assert "The test split is VGGSound's official one; the paper takes MMAudio's list" in str(summary)
    record = json.loads((tmp_path / "splits" / "splits.json").read_text())
    assert record["missing"] == 50
    assert len(record["lists"]["vggsound.csv"]) == 64


def test_a_video_more_or_less_changes_single_lines(listing: Path, folder: Path, tmp_path: Path) -> None:
    def splits() -> dict[str, list[str]]:
        vggsound(PARAMS, listing=str(listing), videos=str(folder), output=str(tmp_path / "splits"))
        return {name: (tmp_path / "splits" / f"{name}.csv").read_text().splitlines() for name in SPLITS}

    before = splits()
    gone = before["preference"][5].split(",")[1]
    (folder / gone).unlink()
    after = splits()
    changed = [n for n, (a, b) in enumerate(zip(before["preference"], after["preference"], strict=True)) if a != b]
    assert changed[0] == 5
    assert len(changed) <= 1 + 100 // 20 * 2  # and the replacements of the missing ones behind it
    assert {name: after[name] for name in ("annotation", "test")} == {
        name: before[name] for name in ("annotation", "test")
    }


def test_fewer_videos_than_wanted_are_told(listing: Path, folder: Path, tmp_path: Path) -> None:
    summary = vggsound(Params(), listing=str(listing), videos=str(folder), output=str(tmp_path / "splits"))
    assert summary.splits["preference"].clips < summary.splits["preference"].planned == 50_000
    assert "of 50,000 clips" in str(summary)


def test_no_videos_at_all_is_the_users_error(listing: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No video of the split annotation"):
        vggsound(PARAMS, listing=str(listing), videos=str(tmp_path / "empty"), output=str(tmp_path / "splits"))
    assert not (tmp_path / "splits").exists()


def test_archives_give_the_tables_of_the_folder_and_only_chosen_clips(
    listing: Path, folder: Path, archives: Path, tmp_path: Path
) -> None:
    unpacked = tmp_path / "unpacked"
    vggsound(PARAMS, listing=str(listing), videos=str(folder), output=str(tmp_path / "a"))
    vggsound(PARAMS, listing=str(listing), videos=str(archives), unpack=str(unpacked), output=str(tmp_path / "b"))
    for name in SPLITS:
        loose, packed = (rows(tmp_path / side / f"{name}.csv") for side in "ab")
        assert [row["clip_id"] for row in loose] == [row["clip_id"] for row in packed]
        for row in packed:
            assert (unpacked / row["video"]).read_bytes() == row["clip_id"].encode()
    assert (tmp_path / "a" / "missing.csv").read_bytes() == (tmp_path / "b" / "missing.csv").read_bytes()
    assert 215 <= len(list(unpacked.glob("*.mp4"))) <= 215 * 1.06


def test_a_second_run_opens_no_archive_and_a_stopped_one_goes_on(
    listing: Path, archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = tarfile.open

    def counted(*arguments, fileobj, **options):
        opened.append(Path(fileobj.name).name)
        if len(opened) == 3 and stop:
            raise KeyboardInterrupt
        return original(*arguments, fileobj=fileobj, **options)

    monkeypatch.setattr(tarfile, "open", counted)
    call = {"listing": str(listing), "videos": str(archives), "unpack": str(tmp_path / "unpacked")}
    stop = True
    with pytest.raises(KeyboardInterrupt):
        vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    stop = False
    del opened[:]
    vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    assert opened[:2] == ["vggsound_02.tgz", "vggsound_03.tar"]
    before = tables(tmp_path / "splits")
    del opened[:]
    vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    assert opened == []
    assert tables(tmp_path / "splits") == before


@pytest.mark.slow
def test_archives_on_s3_are_streamed_to_s3(listing: Path, archives: Path, tmp_path: Path, bucket: str) -> None:
    for file in archives.iterdir():
        write_atomically(f"{bucket}/archives/{file.name}", file.read_bytes())
    local, remote = tmp_path / "local", tmp_path / "remote"
    vggsound(PARAMS, listing=str(listing), videos=str(archives), unpack=str(tmp_path / "u"), output=str(local))
    vggsound(PARAMS, listing=str(listing), videos=f"{bucket}/archives", unpack=f"{bucket}/clips", output=str(remote))
    assert tables(local) == tables(remote)
    clips = read_clips(VideoFolder(f"{bucket}/clips"), str(remote / "annotation.csv"), split="annotation")
    assert [clip.video for clip in clips] == [
        f"{bucket}/clips/{row['video']}" for row in rows(remote / "annotation.csv")
    ]


def test_archives_need_a_place_to_go(listing: Path, archives: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--unpack"):
        vggsound(PARAMS, listing=str(listing), videos=str(archives), output=str(tmp_path / "splits"))


@pytest.mark.parametrize("kind", ["parent", "link"])
def test_an_archive_that_points_out_of_its_folder_is_refused(
    listing: Path, archives: Path, tmp_path: Path, kind: str, clip_ids: list[str]
) -> None:
    with tarfile.open(archives / "vggsound_99.tar", "w") as tar:
        member = tarfile.TarInfo(f"../../{clip_ids[0]}.mp4" if kind == "parent" else f"{clip_ids[0]}.mp4")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
        else:
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(UserError, match="points out of the archive"):
        vggsound(
            PARAMS,
            listing=str(listing),
            videos=str(archives),
            unpack=str(tmp_path / "in" / "here"),
            output=str(tmp_path),
        )
    assert b"evil" not in [file.read_bytes() for file in tmp_path.rglob("*.mp4")]


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _scratched(content: bytes) -> bytes:
    """The header of a file in the middle overwritten; the members behind it are whole."""
    headers = (n for n in range(0, len(content), tarfile.BLOCKSIZE) if content[n + 257 :][:5] == b"ustar")
    start = next(n for n in headers if n > len(content) // 2 and content[n + 156 :][:1] == tarfile.REGTYPE)
    return content[:start] + b"?" * tarfile.BLOCKSIZE + content[start + tarfile.BLOCKSIZE :]


@pytest.mark.parametrize(
    ("name", "damaged_by", "reason"),
    [
        ("vggsound_00.tar", _cut, "it stops before its end"),
        ("vggsound_00.tar", _scratched, "blocks between its members cannot be read"),
        ("vggsound_01.tar.gz", _cut, "Compressed file ended"),
        ("vggsound_03.tar", lambda content: b"<html>no such file</html>" * 99, "cannot be read"),
    ],
)
def test_a_damaged_archive_costs_its_unreadable_clips_until_a_better_copy_is_there(
    listing: Path, archives: Path, tmp_path: Path, clip_ids: list[str], name: str, damaged_by, reason: str
) -> None:
    call = {"listing": str(listing), "videos": str(archives), "unpack": str(tmp_path / "unpacked")}
    whole = (archives / name).read_bytes()
    with tarfile.open(archives / name) as tar:
        inside = {Path(member).stem for member in tar.getnames()}
    (archives / name).write_bytes(damaged_by(whole))
    summary = vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    assert reason in summary.damaged_archives[name]
    assert f"{name} is damaged" in str(summary)
    (row,) = rows(tmp_path / "splits" / "damaged-archives.csv")
    lost = {row["clip_id"] for row in rows(tmp_path / "splits" / "missing.csv")} & inside
    assert (row["archive"], int(row["readable_clips"])) == (name, len(inside) - len(lost))
    assert 1 <= len(lost) <= (1 if damaged_by is _scratched else len(inside))
    if damaged_by is _cut:
        assert len(lost) < len(inside)
    assert summary.missing == 50 + len(lost)
    for split in SPLITS:
        for row in rows(tmp_path / "splits" / f"{split}.csv"):
            assert (tmp_path / "unpacked" / row["video"]).read_bytes() == row["clip_id"].encode()
    (archives / name).write_bytes(whole)
    summary = vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    assert (summary.damaged_archives, summary.missing) == ({}, 50)
    assert rows(tmp_path / "splits" / "damaged-archives.csv") == []


def test_clips_that_came_out_of_a_damaged_archive_are_written_anew(
    listing: Path, archives: Path, tmp_path: Path
) -> None:
    """The better copy has the same size; what the damaged one gave may be damaged, too."""
    call = {"listing": str(listing), "videos": str(archives), "unpack": str(tmp_path / "unpacked")}
    whole = (archives / "vggsound_00.tar").read_bytes()
    (archives / "vggsound_00.tar").write_bytes(_scratched(whole))
    vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        given = next(name for name in map(Path, tar.getnames()) if (tmp_path / "unpacked" / name.name).exists())
    (tmp_path / "unpacked" / given.name).write_bytes(b"garbage")
    (archives / "vggsound_00.tar").write_bytes(whole)
    vggsound(PARAMS, **call, output=str(tmp_path / "splits"))
    assert (tmp_path / "unpacked" / given.name).read_bytes() == given.stem.encode()


def test_the_command_line_says_that_an_archive_is_damaged(listing: Path, archives: Path, tmp_path: Path) -> None:
    whole = (archives / "vggsound_00.tar").read_bytes()
    (archives / "vggsound_00.tar").write_bytes(_cut(whole))
    (archives / "._vggsound_00.tar").write_bytes(b"a Mac's companion")
    settings = ("annotation_clips=20", "preference_clips=100", "annotation_share=0.25")
    command = ["vggsound", "--list", str(listing), "--videos", str(archives)]
    command += ["--unpack", str(tmp_path / "unpacked"), "--output", str(tmp_path / "splits")]
    command += [part for setting in settings for part in ("--set", f"vggsound.{setting}")]
    told = CliRunner().invoke(app, command)
    assert isinstance(told.exception, UserError)
    assert "1 archives are damaged" in str(told.exception)
    assert "vggsound_00.tar is damaged" in told.output
    assert len(rows(tmp_path / "splits" / "annotation.csv")) == 20
    assert CliRunner().invoke(app, [*command, "--allow-damaged"]).exit_code == 0
