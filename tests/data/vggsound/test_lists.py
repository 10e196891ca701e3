from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from v2a_dpo.data.vggsound.files import clip_id_of
from v2a_dpo.data.vggsound.lists import read_clip_list, read_official_list
from v2a_dpo.errors import UserError


def test_the_official_list_gives_padded_ids_and_whole_labels(listing: Path) -> None:
    clips = read_official_list(str(listing)).clips
    assert len(clips) == 1000
    assert {len(clip.clip_id) for clip in clips} == {18}
    assert {clip.label for clip in clips} >= {"child speech, kid speaking"}
    assert sum(clip.official_split == "test" for clip in clips) == 100


def test_bad_lines_are_set_aside_with_their_number_and_reason(listing: Path) -> None:
    text = listing.read_text().splitlines()
    text[4] = "abc,30,dog barking,train"
    text[6] = text[5]
    text.append("---g-f_I2yQ,1,dog barking,validation")
    listing.write_text("\n".join(text))
    official = read_official_list(str(listing))
    assert [(bad.line, bad.reason.split()[-1]) for bad in official.bad_lines] == [
        (5, "id"),
        (7, "before"),
        (1001, "test"),
    ]
    assert len(official.clips) == 998


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id\tlabel\n---g-f_I2yQ_000001\tpeople marching\n", "line 1: it has 2 cells"),
        ("---g-f_I2yQ,one,people marching,train\n", "no start second"),
        ("---g-f_I2yQ,1,,train\n", "label is empty"),
        ("", "0 of 0 lines"),
        ('---g-f_I2yQ,1,"open,train\n', "Line"),
    ],
)
def test_another_file_is_refused_with_its_first_wrong_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text * 3)
    with pytest.raises(UserError, match=reason) as caught:
        read_official_list(str(path))
    assert "other.csv" in str(caught.value)


def test_lists_of_others_are_read_in_every_form(tmp_path: Path) -> None:
    ids = {"---g-f_I2yQ_000001", "--U7joUcTCo_000000"}
    forms = {
        "mmaudio.tsv": "id\tlabel\n---g-f_I2yQ_000001\tpeople marching\n--U7joUcTCo_000000\tpeople coughing\n",
        "plain.txt": "---g-f_I2yQ_000001\n--U7joUcTCo_000000\n",
        "official.csv": "---g-f_I2yQ,1,people marching,test\n--U7joUcTCo,0,people coughing,test\n",
        "vggsounder.csv": "video_id,label,modality\n---g-f_I2yQ_000001,a,A\n---g-f_I2yQ_000001,b,V\n"
        "--U7joUcTCo_000000,a,A\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_clip_list(str(tmp_path / name)).keys() == ids, name
    packed = tmp_path / "mmaudio.tsv.gz"
    packed.write_bytes(gzip.compress(forms["mmaudio.tsv"].encode()))
    assert read_clip_list(str(packed))["---g-f_I2yQ_000001"] == "people marching"


def test_a_line_without_a_clip_id_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("---g-f_I2yQ_000001\nnonsense\n")
    with pytest.raises(UserError, match="Line 2 starts with 'nonsense'"):
        read_clip_list(str(path))


def test_a_clip_is_known_by_the_names_that_downloaders_give() -> None:
    expected = "---g-f_I2yQ_000030"
    for name in (
        "---g-f_I2yQ_000030.mp4",
        "a/b.c/---g-f_I2yQ_000030.MP4",
        "---g-f_I2yQ_30_40.webm",
        "---g-f_I2yQ_30000_40000.mkv",
    ):
        assert clip_id_of(name) == expected
    for name in ("---g-f_I2yQ_000030.wav", "---g-f_I2yQ.mp4", "---g-f_I2yQ_40_30.mp4", "video.mp4"):
        assert clip_id_of(name) is None
