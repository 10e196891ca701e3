"""The published lists: VGGSound's own CSV, and lists of clips that other models were trained or tested on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from v2a_dpo.artifacts.text_table import read_table
from v2a_dpo.errors import UserError

#: A YouTube id, an underscore and the start second in six digits, as MMAudio, Frieren and VGGSounder write it.
CLIP_ID = re.compile(r"[A-Za-z0-9_-]{11}_[0-9]{6}")
YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
#: A list with a larger share of wrong lines is another file.
_TOLERATED = 0.01


@dataclass(frozen=True)
class ListedClip:
    """A line of VGGSound's list: a ten-second clip of a YouTube video with its class label."""

    clip_id: str
    label: str
    official_split: Literal["train", "test"]

    @property
    def youtube_id(self) -> str:
        """The video that the clip was cut from."""
        return youtube_id(self.clip_id)


@dataclass(frozen=True)
class BadLine:
    """A line of a list that names no clip, and the reason."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class OfficialList:
    """VGGSound's list: its clips in the order of the lines, and the lines that could not be used."""

    clips: list[ListedClip]
    bad_lines: list[BadLine]


def youtube_id(clip_id: str) -> str:
    """The YouTube id in front of a clip id; a YouTube id alone is itself."""
    return clip_id[:11]


def read_official_list(uri: str) -> OfficialList:
    """VGGSound's own list `youtube_id,start_second,label,train|test`, without a header; `.gz` is unpacked.

    A wrong or repeated line is set aside with its number and the reason. Raises UserError, with the first wrong line,
    when more than 1% of the lines are wrong: then it is another file.
    """
    clips: dict[str, ListedClip] = {}
    bad_lines: list[BadLine] = []
    lines = read_table(uri)
    for line in lines:
        try:
            clip = _listed(line.cells)
            if clip.clip_id in clips:
                raise ValueError(f"the clip {clip.clip_id} is listed before")
        except ValueError as error:
            bad_lines.append(BadLine(line.number, ",".join(line.cells), str(error)))
        else:
            clips[clip.clip_id] = clip
    if not clips or len(bad_lines) > max(1, _TOLERATED * len(lines)):
        first = f" the first is line {bad_lines[0].line}: {bad_lines[0].reason}." if bad_lines else ""
        raise UserError(
            f"{len(bad_lines)} of {len(lines)} lines are not lines of VGGSound's list;{first}",
            where=uri,
            remedy="Give the official vggsound.csv: YouTube id, start second, label, train or test; no header.",
        )
    return OfficialList(list(clips.values()), bad_lines)


def _listed(cells: list[str]) -> ListedClip:
    if len(cells) != 4:
        raise ValueError(f"it has {len(cells)} cells where 4 are expected")
    video, start, label, split = cells
    if not YOUTUBE_ID.fullmatch(video):
        raise ValueError(f"{video!r} is no YouTube id")
    if not re.fullmatch(r"[0-9]{1,6}", start):
        raise ValueError(f"{start!r} is no start second")
    if not label:
        raise ValueError("its label is empty")
    if split not in {"train", "test"}:
        raise ValueError(f"{split!r} is neither train nor test")
    return ListedClip(f"{video}_{start.zfill(6)}", label, "train" if split == "train" else "test")


def read_clip_list(uri: str) -> dict[str, str]:
    """Clip id -> label ("" where there is none) of a published list, in the order of its lines; `.gz` is unpacked.

    Understood are MMAudio's `id<TAB>label`, VGGSound's CSV, and any table or plain list whose first column is a clip id
    or a YouTube id (which then stands for every clip of that video). Raises UserError at the first other line.
    """
    labels: dict[str, str] = {}
    for line in read_table(uri):
        cells = line.cells
        official = len(cells) == 4 and re.fullmatch(r"[0-9]{1,6}", cells[1]) is not None
        clip_id = f"{cells[0]}_{cells[1].zfill(6)}" if official else cells[0]
        if not (CLIP_ID.fullmatch(clip_id) or YOUTUBE_ID.fullmatch(clip_id)):
            if not labels and cells[0].lower() in {"id", "clip_id", "video_id", "youtube_id", "name"}:
                continue
            raise UserError(
                f"Line {line.number} starts with {cells[0]!r}, which is no clip id.",
                where=uri,
                remedy="A clip id is an 11-character YouTube id, `_`, and the start second in six digits.",
            )
        label = cells[2] if official else (cells[1] if len(cells) == 2 else "")
        labels.setdefault(clip_id, label)
    if not labels:
        raise UserError("This list names no clips.", where=uri, remedy="Give one clip id per line.")
    return labels
