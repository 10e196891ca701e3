from __future__ import annotations

import gzip
import os
import unicodedata

import pytest

from v2a_dpo.data.captions import CaptionedClip, RejectedClip, read_clips
from v2a_dpo.errors import UserError
from v2a_dpo.media.errors import CaptionInvalid, DuplicateClip, VideoMissing
from v2a_dpo.media.video_files import VideoFolder


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("-abcdefghij_000130.mp4", "F8Zt3mYlOqU_000004.webm", "été.mp4", "notes.txt"):
        (folder / name).touch()
    return folder


def _table(tmp_path, text, name="captions.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def test_vggsound_lists_are_read(videos, tmp_path):
    text = (
        '-abcdefghij,130,"male speech, man speaking",test\nF8Zt3mYlOqU,4,whale '
        "calling,train\nmissing0000,10,dog barking,test\n"
    )
    first, second = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="test")
    prompt = "male speech, man speaking"
    assert first == CaptionedClip("-abcdefghij_000130", f"{videos}/-abcdefghij_000130.mp4", 0.0, prompt, prompt, True)
    assert isinstance(second, RejectedClip)
    assert second.clip_id == "missing0000_000010"
    assert isinstance(second.error, VideoMissing)


def test_a_split_that_the_table_does_not_have_is_a_mistake(videos, tmp_path):
    with pytest.raises(UserError, match="no clips of the split 'preference'; it has test, train"):
        read_clips(VideoFolder(str(videos)), _table(tmp_path, "a,1,x,test\nb,2,y,train\n"), split="preference")


def test_a_list_without_a_header_may_say_the_same_twice_in_its_first_line(videos, tmp_path):
    (clip,) = read_clips(VideoFolder(str(videos)), _table(tmp_path, "F8Zt3mYlOqU,4,test,test\n"), split="test")
    assert (clip.clip_id, clip.prompt) == ("F8Zt3mYlOqU_000004", "test")


@pytest.mark.parametrize("name", ["list.tsv", "list.tsv.gz"])
def test_mmaudio_lists_are_read(videos, tmp_path, name):
    text = "id\tlabel\nF8Zt3mYlOqU_000004\twhale calling\n"
    (clip,) = read_clips(VideoFolder(str(videos)), _table(tmp_path, text, name), split="test")
    assert clip == CaptionedClip(
        "F8Zt3mYlOqU_000004", f"{videos}/F8Zt3mYlOqU_000004.webm", 0.0, "whale calling", "whale calling"
    )


def test_our_own_tables_are_read(videos, tmp_path):
    text = (
        "\ufeffclip_id,video,prompt,label,start_s,has_speech\r\n"
        'one,été.mp4,"a bell, ringing",bell,1.5,\r\n'
        "two,été.mp4,,voice,,true\r\n"
        "three,s3://bucket/three.mp4,,,,\r\n"
        '"été",,,"child speech, kid speaking",,\r\n'
        'five,été.mp4,,"child speech, kid speaking",,no\r\n'
    )
    clips = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")
    path = f"{videos}/été.mp4"
    assert clips == [
        CaptionedClip("one", path, 1.5, "a bell, ringing", "bell", False),
        CaptionedClip("two", path, 0.0, None, "voice", True),
        CaptionedClip("three", "s3://bucket/three.mp4"),
        CaptionedClip("été", path, 0.0, None, "child speech, kid speaking", True),
        CaptionedClip("five", path, 0.0, None, "child speech, kid speaking", False),
    ]


def test_tab_separated_captions_keep_their_quotation_marks_and_all_lines(videos, tmp_path):
    prompts = ['"Hurry up, a man shouts', 'an engine "purrs" softly', '"Stop" is heard', "rain falls"]
    text = "id\tlabel\n" + "".join(f"clip-{n}\t{prompt}\n" for n, prompt in enumerate(prompts))
    for n in range(len(prompts)):
        (videos / f"clip-{n}.mp4").touch()
    clips = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")
    assert [clip.prompt for clip in clips] == prompts


def test_a_table_that_a_spreadsheet_wrote_is_read(videos, tmp_path):
    text = "Clip ID; Prompt ;Start_s;;\r\nété;a bell, ringing;1.0;;\r\n;;;;\r\n"
    (clip,) = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")
    assert clip == CaptionedClip("été", f"{videos}/été.mp4", 1.0, "a bell, ringing")


def test_a_line_that_cannot_be_told_which_split_it_is_of_is_rejected_in_each(videos, tmp_path):
    text = "clip_id,prompt,split\nété,a,test\nF8Zt3mYlOqU_000004,b\n-abcdefghij_000130,a dog, barking,train\nx,c,\n"
    for split, others in (("test", 1), ("train", 0)):
        if split == "train":
            text += "y,d,train\n"
        clips = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split=split)
        rejected = [clip for clip in clips if isinstance(clip, RejectedClip) and clip.clip_id != "y"]
        assert [str(clip.error).split(":")[0] for clip in rejected] == [
            f"Line {line} cannot be used" for line in (3, 4, 5)
        ]
        assert len([clip for clip in clips if isinstance(clip, CaptionedClip)]) == others


@pytest.fixture
def class_folders(tmp_path):
    folder = tmp_path / "classes"
    names = (
        "top.mp4",
        "dogs/a.mp4",
        "dogs/b.mkv",
        "cats/b.mp4",
        "cats/top.mp4",
        "cats/c.gif",
        "cats/c.mp4",
        "cats/d.M2TS",
    )
    for name in (*names, "disc.vob", "dogs/notes.txt", "cats/odd.xyz", "._top.mp4", "dogs/._a.mp4", ".trash/e.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("line", "video"),
    [
        ("top,", "top.mp4"),
        ("cats/top,", "cats/top.mp4"),
        ("dogs/a,", "dogs/a.mp4"),
        ("a,", "dogs/a.mp4"),
        ("dogs/b,", "dogs/b.mkv"),
        ("c,", "cats/c.mp4"),
        ("d,", "cats/d.M2TS"),
        ("disc,", "disc.vob"),
        ("x,c.gif", "cats/c.gif"),
        ("x,odd.xyz", "cats/odd.xyz"),
        ("x,dogs/../top.mp4", "dogs/../top.mp4"),
    ],
)
def test_a_video_is_found_in_folders_by_id_or_by_name(class_folders, tmp_path, line, video):
    (clip,) = read_clips(VideoFolder(str(class_folders)), _table(tmp_path, f"clip_id,video\n{line}\n"), split="any")
    assert clip == CaptionedClip(line.split(",")[0], f"{class_folders}/{video}")


def test_a_name_that_two_folders_have_is_not_guessed(class_folders, tmp_path):
    (class_folders / "dogs" / "two.mp4").touch()
    (class_folders / "cats" / "two.mp4").touch()
    for given, found in (("b,", "cats/b.mp4, dogs/b.mkv"), ("x,two.mp4", "cats/two.mp4, dogs/two.mp4")):
        (clip,) = read_clips(
            VideoFolder(str(class_folders)), _table(tmp_path, f"clip_id,video\n{given}\n"), split="any"
        )
        assert isinstance(clip, RejectedClip)
        assert isinstance(clip.error, CaptionInvalid)
        assert f"may be {found}" in str(clip.error)


def test_without_a_table_folders_are_looked_into_and_hidden_files_left_alone(class_folders):
    folder = VideoFolder(str(class_folders))
    clips = read_clips(folder, None, split="any")
    used = [clip.clip_id for clip in clips if isinstance(clip, CaptionedClip)]
    assert used == ["cats/b", "cats/c", "cats/d", "cats/top", "disc", "dogs/a", "dogs/b", "top"]
    assert [clip.clip_id for clip in clips if isinstance(clip, RejectedClip)] == ["cats/c"]
    assert {clip.video for clip in clips if isinstance(clip, CaptionedClip)} >= {f"{class_folders}/cats/c.mp4"}
    assert folder.others == ["cats/odd.xyz", "dogs/notes.txt"]


def test_accents_compare_equal_however_they_are_composed(videos, tmp_path):
    text = f"clip_id\n{unicodedata.normalize('NFD', 'été')}\n"
    (clip,) = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")
    assert isinstance(clip, CaptionedClip)
    assert clip.video == f"{videos}/été.mp4"


def test_the_first_of_two_clips_of_one_id_counts(videos, tmp_path):
    text = "clip_id,video,prompt\na,été.mp4,first\na,F8Zt3mYlOqU_000004.webm,second\nb,été.mp4,third\n"
    first, second, third = read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")
    assert isinstance(first, CaptionedClip)
    assert first.prompt == "first"
    assert isinstance(second, RejectedClip)
    assert isinstance(second.error, DuplicateClip)
    assert "F8Zt3mYlOqU" in str(second.error)
    assert isinstance(third, CaptionedClip)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,été.mp4,soon,", "soon"),
        ("a,été.mp4,-1,", "start_s is -1"),
        ("a,été.mp4,nan,", "start_s is nan"),
        ("a,été.mp4,0,perhaps", "neither true nor false"),
        ("a,été.mp4", "2 cells where 4"),
        (",,,true", "neither a clip id nor a video"),
    ],
)
def test_a_wrong_line_is_rejected_with_its_number(videos, tmp_path, line, reason):
    (clip,) = read_clips(
        VideoFolder(str(videos)), _table(tmp_path, f"clip_id,video,start_s,has_speech\n{line}\n"), split="any"
    )
    assert isinstance(clip, RejectedClip)
    assert isinstance(clip.error, CaptionInvalid)
    assert "Line 2" in str(clip.error)
    assert reason in str(clip.error)


def test_a_named_video_that_is_not_there_is_missing(videos, tmp_path):
    (clip,) = read_clips(VideoFolder(str(videos)), _table(tmp_path, "video\nnowhere.mp4\n"), split="any")
    assert isinstance(clip, RejectedClip)
    assert clip.clip_id == "nowhere"
    assert isinstance(clip.error, VideoMissing)


def test_a_folder_needs_no_captions(videos):
    clips = read_clips(VideoFolder(str(videos)), None, split="any")
    assert [clip.clip_id for clip in clips] == ["-abcdefghij_000130", "F8Zt3mYlOqU_000004", "été"]
    assert all(isinstance(clip, CaptionedClip) and clip.prompt is None and not clip.has_speech for clip in clips)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("one,two\n1,2\n", "unknown"),
        ("clip_id,colour\na,b\n", "Unknown columns: colour"),
        ("clip_id,prompt\n", "has a header and no lines"),
        (",clip_id,prompt\n0,a,b\n", "Column 1 of this caption table has no name.*index=False"),
        ('clip_id,prompt\na,"b\nc,d\n', "Line 2 opens a quotation mark"),
    ],
)
def test_a_table_that_makes_no_sense_is_a_mistake(videos, tmp_path, text, reason):
    with pytest.raises(UserError, match=reason):
        read_clips(VideoFolder(str(videos)), _table(tmp_path, text), split="any")


def test_a_table_in_another_encoding_is_a_mistake(videos, tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("clip_id\nété\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_clips(VideoFolder(str(videos)), str(path), split="any")


def test_a_file_name_that_is_no_unicode_is_rejected(tmp_path):
    (tmp_path / "good.mp4").touch()
    with open(os.fsencode(tmp_path) + b"/bad-\xff.mp4", "wb"):
        pass
    bad, good = read_clips(VideoFolder(str(tmp_path)), None, split="any")
    assert isinstance(bad, RejectedClip)
    assert bad.clip_id == "bad-?"
    assert "UTF-8" in str(bad.error)
    assert isinstance(good, CaptionedClip)
