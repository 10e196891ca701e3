"""Which clips there are: from a caption table in one of three formats, or simply from a folder of videos.

| table | columns | a clip's video |
| --- | --- | --- |
| ours, comma or tab separated with a header | `clip_id` and/or `video`; `prompt`, `label`, `start_s`, `has_speech`, `split` as wanted | the `video` column, else found by id |
| VGGSound's list, without a header | YouTube id, start second, label, split | `<id>_<start, six digits>`; the file is taken to be cut already |
| MMAudio's list, with a header | `id<TAB>label` | `<id>` |

In the two published lists the label is the prompt too. A name ending in `.gz` is unpacked.
"""

from __future__ import annotations

import csv
import gzip
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from v2a_dpo.artifacts.location import is_remote, join, list_names, read_bytes
from v2a_dpo.errors import UserError
from v2a_dpo.media.errors import CaptionInvalid, DuplicateClip, MediaError, VideoMissing, VideoUnreadable

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".flv",
    ".wmv",
    ".3gp",
    ".ogv",
)
#: VGGSound's classes of human speech; PESQ, made for telephone speech, is asked of these alone.
SPEECH_LABELS = frozenset({"male speech, man speaking", "female speech, woman speaking", "child speech, kid speaking"})
_COLUMNS = frozenset({"clip_id", "video", "prompt", "label", "start_s", "has_speech", "split"})
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True)
class CaptionedClip:
    """A clip as the table describes it: its video (path or URI), where it starts in it, and what is known of its content."""

    clip_id: str
    video: str
    start_s: float = 0.0
    prompt: str | None = None
    label: str | None = None
    has_speech: bool = False


@dataclass(frozen=True)
class RejectedClip:
    """A line that gives no clip, and why."""

    clip_id: str
    error: MediaError


def read_clips(videos: str, captions: str | None, *, split: str) -> list[CaptionedClip | RejectedClip]:
    """The clips of the folder `videos` (path or URI) in the order of the table `captions`, or of their names without one.

    A line without a video, with a wrong value, or with a clip id that an earlier line has already, is returned as
    rejected. When the table names splits, only the lines of `split` count. Raises UserError when the table itself
    cannot be understood, or has no line for `split`.
    """
    folder = _VideoFolder(videos)
    if captions is None:
        found: Iterator[CaptionedClip | RejectedClip] = (_named_clip(name, videos) for name in folder.names)
    else:
        rows = _parse(captions)
        splits = {row["split"] for row in rows if row.get("split")}
        if splits and split not in splits:
            raise UserError(
                f"This table has no clips of the split {split!r}; it has {', '.join(sorted(splits))}.",
                where=captions,
                remedy="Name one of these as the split, or leave the split column out of your own table.",
            )
        found = (_clip(row, folder, captions) for row in rows if not splits or row.get("split") == split)
    return _without_duplicates(found)


def _named_clip(name: str, videos: str) -> CaptionedClip | RejectedClip:
    """The clip of a file without a caption; a name that is no valid Unicode cannot be written into a table."""
    readable = name.encode(errors="replace").decode()
    if readable != name:
        problem = VideoUnreadable(
            f"The file name {readable} is no valid UTF-8.", where=videos, remedy="Rename the file."
        )
        return RejectedClip(PurePosixPath(readable).stem, problem)
    return CaptionedClip(PurePosixPath(name).stem, join(videos, name))


class _VideoFolder:
    """Finds videos by clip id; accents compare equal however the file system spells them."""

    def __init__(self, videos: str) -> None:
        self.videos = videos
        self.names = [name for name in list_names(videos) if name.lower().endswith(VIDEO_SUFFIXES)]
        self._by_stem = {_normal(PurePosixPath(name).stem): name for name in reversed(self.names)}
        self._by_name = {_normal(name): name for name in self.names}

    def find(self, clip_id: str, video: str | None) -> str:
        """The video's path or URI; raises VideoMissing."""
        if video and (is_remote(video) or video.startswith("/")):
            return video
        name = self._by_name.get(_normal(video), video) if video else self._by_stem.get(_normal(clip_id))
        if name is None or (video and "/" not in name and _normal(name) not in self._by_name):
            raise VideoMissing(
                f"There is no video {video or clip_id + '.mp4'}.",
                where=self.videos,
                remedy="Add the file or drop the line.",
            )
        return join(self.videos, name)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _parse(captions: str) -> list[dict[str, str]]:
    """The table's lines as our own columns, each with its `line` number."""
    content = read_bytes(captions)
    try:
        text = (gzip.decompress(content) if captions.endswith(".gz") else content).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(
            f"This caption table cannot be read: {error}.", where=captions, remedy="Save it as UTF-8 text."
        ) from error
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    if not lines:
        raise UserError("This caption table is empty.", where=captions, remedy="Give one line a clip.")
    header = lines[0][1]
    if set(header) & {"clip_id", "video"}:
        if unknown := set(header) - _COLUMNS:
            raise UserError(
                f"Unknown columns: {', '.join(sorted(unknown))}.",
                where=captions,
                remedy=f"The columns are {', '.join(sorted(_COLUMNS))}.",
            )
        return [_row(line, header, cells) for line, cells in lines[1:]]
    if header == ["id", "label"]:
        named = [_row(line, ["clip_id", "label"], cells) for line, cells in lines[1:]]
    elif len(header) == 4 and header[1].isdecimal():
        named = [_row(line, ["youtube_id", "start", "label", "split"], cells) for line, cells in lines]
        for row in named:
            row["clip_id"] = f"{row.get('youtube_id', '')}_{row.get('start', '').zfill(6)}"
    else:
        raise UserError(
            "The format of this caption table is unknown.",
            where=captions,
            remedy="Use a header with clip_id or video, VGGSound's `youtube_id,start,label,split` without one, or `id<TAB>label`.",
        )
    return [{**row, "prompt": row.get("label", "")} for row in named]


def _row(line: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    fits = "" if len(cells) == len(header) else f"it has {len(cells)} cells where {len(header)} are expected"
    return {**dict(zip(header, cells, strict=False)), "line": str(line), "misfit": fits}


def _clip(row: Mapping[str, str], folder: _VideoFolder, captions: str) -> CaptionedClip | RejectedClip:
    video = row.get("video") or None
    clip_id = row.get("clip_id") or (PurePosixPath(video).stem if video else "")
    label = row.get("label") or None
    try:
        if row["misfit"] or not clip_id:
            raise ValueError(row["misfit"] or "it names neither a clip id nor a video")
        start_s = float(row.get("start_s") or 0.0)
        if not 0.0 <= start_s < float("inf"):
            raise ValueError(f"start_s is {start_s:g}")
        return CaptionedClip(
            clip_id=clip_id,
            video=folder.find(clip_id, video),
            start_s=start_s,
            prompt=row.get("prompt") or None,
            label=label,
            has_speech=_truth(row["has_speech"]) if row.get("has_speech") else label in SPEECH_LABELS,
        )
    except ValueError as error:
        remedy = "Correct the line."
        problem = CaptionInvalid(f"Line {row['line']} cannot be used: {error}.", where=captions, remedy=remedy)
        return RejectedClip(clip_id or f"line-{row['line']}", problem)
    except VideoMissing as error:
        return RejectedClip(clip_id, error)


def _truth(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(f"has_speech is {text!r}, neither true nor false")
    return text.lower() in _YES


def _without_duplicates(found: Iterator[CaptionedClip | RejectedClip]) -> list[CaptionedClip | RejectedClip]:
    """The same lines, all but the first of each clip id rejected."""
    seen: set[str] = set()
    checked: list[CaptionedClip | RejectedClip] = []
    for clip in found:
        if clip.clip_id in seen and isinstance(clip, CaptionedClip):
            problem = DuplicateClip(
                "This clip id was given already; the first one counts.",
                where=clip.video,
                remedy="Give each clip its own id.",
            )
            checked.append(RejectedClip(clip.clip_id, problem))
        else:
            checked.append(clip)
        seen.add(clip.clip_id)
    return checked
