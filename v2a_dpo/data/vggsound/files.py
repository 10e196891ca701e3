"""The clip ids of video files, from their names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.data.vggsound.lists import CLIP_ID
from v2a_dpo.media.video_files import is_video

_RANGE = re.compile(r"([A-Za-z0-9_-]{11})_([0-9]{1,9})_([0-9]{1,9})")


def clip_id_of(name: str) -> str | None:
    """The clip id of a video file called `name`, a path whose folders do not count; None for any other file.

    Downloaders name a clip `<YouTube id>_<start second, six digits>` or `<YouTube id>_<start>_<end>`, where start and
    end are seconds, or milliseconds if they are 1000 or more apart.
    """
    path = PurePosixPath(name)
    if not is_video(name):
        return None
    if CLIP_ID.fullmatch(path.stem):
        return path.stem
    match = _RANGE.fullmatch(path.stem)
    if match is None:
        return None
    start, end = int(match[2]), int(match[3])
    second = start // 1000 if end - start >= 1000 else start
    return f"{match[1]}_{second:06d}" if start < end and second < 10**6 else None


def videos_in(folder: str) -> dict[str, str]:
    """Clip id -> file, relative to `folder` (path or URI), of the clips in it and its folders; the first counts."""
    files: dict[str, str] = {}
    for name in tree_names(folder):
        clip_id = clip_id_of(name)
        if clip_id is not None:
            files.setdefault(clip_id, name)
    return files
