"""Lists clips from a caption table in one of three formats, or from a folder of videos.

| table | columns | a clip's video |
| --- | --- | --- |
| ours, with a header | `clip_id`, `video`, or both; optionally more | the `video` column, else by id |
| VGGSound's list, no header | YouTube id, start second, label, split | `<id>_<start, six digits>`, cut already |
| MMAudio's list, with a header | `id<TAB>label` | `<id>` |

The optional columns are `prompt`, `label`, `start_s`, `has_speech` and `split`.

In the two published lists the label is also the prompt. `artifacts/text_table.py` splits lines into cells. Without a
table, a clip's id is the name of its file, with its folders and without its suffix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.text_table import TableLine, column_names, read_table
from v2a_dpo.errors import UserError
from v2a_dpo.media.errors import CaptionInvalid, DuplicateClip, MediaError, VideoMissing, VideoUnreadable
from v2a_dpo.media.video_files import VideoFolder

#: VGGSound's classes of human speech; PESQ, made for telephone speech, is computed for these alone.
SPEECH_LABELS = frozenset({"male speech, man speaking", "female speech, woman speaking", "child speech, kid speaking"})
_COLUMNS = frozenset({"clip_id", "video", "prompt", "label", "start_s", "has_speech", "split"})
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True)
class CaptionedClip:
    """A clip as the table describes it: its video (path or URI), its start in the video, and its labels."""

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


def read_clips(folder: VideoFolder, captions: str | None, *, split: str) -> list[CaptionedClip | RejectedClip]:
    """The clips of `folder` in the order of the table `captions`, or of their names without one.

    A line without a video, with a wrong value, or with the clip id of an earlier line, is returned as
    rejected. When the table names splits, only the lines of `split` count, and lines without a split are
    rejected. Raises UserError when the table itself cannot be understood, or has no line for `split`.
    """
    if captions is None:
        clips: Iterator[CaptionedClip | RejectedClip] = (
            _named_clip(clip_id, name, folder.videos) for clip_id, name in folder.clips()
        )
    else:
        rows = _parse(captions)
        splits = {row["split"] for row in rows if row.get("split") and not row["misfit"]}
        if splits and split not in splits:
            raise UserError(
                f"This table has no clips of the split {split!r}; it has {', '.join(sorted(splits))}.",
                where=captions,
                remedy="Name one of these as the split, or leave the split column out of your own table.",
            )
        if splits:
            rows = [{**row, "misfit": row["misfit"] or ("" if row["split"] else "it names no split")} for row in rows]
            rows = [row for row in rows if row["misfit"] or row["split"] == split]
        clips = (_clip(row, folder, captions) for row in rows)
    return _without_duplicates(clips)


def _named_clip(clip_id: str, name: str, videos: str) -> CaptionedClip | RejectedClip:
    """The clip of a file without a caption; a name that is not valid Unicode cannot be stored in a table."""
    readable = name.encode(errors="replace").decode()
    if readable != name:
        problem = VideoUnreadable(
            f"The file name {readable} is no valid UTF-8.", where=videos, remedy="Rename the file."
        )
        return RejectedClip(clip_id.encode(errors="replace").decode(), problem)
    return CaptionedClip(clip_id, join(videos, name))


def _parse(captions: str) -> list[dict[str, str]]:
    """The table's lines as our own columns, each with its `line` number."""
    lines = read_table(captions)
    if not lines:
        raise UserError("This caption table is empty.", where=captions, remedy="Give one line per clip.")
    if len(lines[0].cells) == 4 and lines[0].cells[1].isdecimal():
        listed = [_row(line, ["youtube_id", "start", "label", "split"]) for line in lines]
        return [_with_prompt({**row, "clip_id": _vggsound_id(row)}) for row in listed]
    names = column_names(lines[0], captions)
    if set(names) & {"clip_id", "video"}:
        if "" in names:
            raise UserError(
                f"Column {names.index('') + 1} of this caption table has no name.",
                where=captions,
                remedy="Give it one, or save the table without its row numbers (in pandas: index=False).",
            )
        if unknown := set(names) - _COLUMNS:
            raise UserError(
                f"Unknown columns: {', '.join(sorted(unknown))}.",
                where=captions,
                remedy=f"The columns are {', '.join(sorted(_COLUMNS))}.",
            )
        rows = [_row(line, names) for line in lines[1:]]
    elif names == ["id", "label"]:
        rows = [_with_prompt(_row(line, ["clip_id", "label"])) for line in lines[1:]]
    else:
        raise UserError(
            "The format of this caption table is unknown.",
            where=captions,
            remedy=(
                "Use a header with clip_id or video, VGGSound's `youtube_id,start,label,split` without one, "
                "or `id<TAB>label`."
            ),
        )
    if not rows:
        raise UserError(
            "This caption table has a header and no lines.", where=captions, remedy="Give one line per clip."
        )
    return rows


def _vggsound_id(row: Mapping[str, str]) -> str:
    return f"{row.get('youtube_id', '')}_{row.get('start', '').zfill(6)}"


def _with_prompt(row: Mapping[str, str]) -> dict[str, str]:
    return {**row, "prompt": row.get("label", "")}


def _row(line: TableLine, names: Sequence[str]) -> dict[str, str]:
    count, expected = len(line.cells), len(names)
    misfit = "" if count == expected else f"it has {count} cells where {expected} are expected"
    return {**dict(zip(names, line.cells, strict=False)), "line": str(line.number), "misfit": misfit}


def _clip(row: Mapping[str, str], folder: VideoFolder, captions: str) -> CaptionedClip | RejectedClip:
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
            has_speech=_boolean(row["has_speech"]) if row.get("has_speech") else label in SPEECH_LABELS,
        )
    except ValueError as error:
        remedy = "Correct the line."
        problem = CaptionInvalid(f"Line {row['line']} cannot be used: {error}.", where=captions, remedy=remedy)
        return RejectedClip(clip_id or f"line-{row['line']}", problem)
    except VideoMissing as error:
        return RejectedClip(clip_id, error)


def _boolean(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(f"has_speech is {text!r}, neither true nor false")
    return text.lower() in _YES


def _without_duplicates(clips: Iterator[CaptionedClip | RejectedClip]) -> list[CaptionedClip | RejectedClip]:
    """The same lines, all but the first of each clip id rejected."""
    seen: set[str] = set()
    checked: list[CaptionedClip | RejectedClip] = []
    for clip in clips:
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
