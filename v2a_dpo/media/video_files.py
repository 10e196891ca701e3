"""Which files are videos, and which of those in a folder belongs to a clip."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import PurePosixPath

from v2a_dpo.artifacts.location import is_remote, join, tree_names
from v2a_dpo.media.errors import VideoMissing

#: Suffixes of files that FFmpeg reads pictures from. Of two files of one name the earlier suffix counts.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob"),
    *(".ts", ".m2ts", ".mts", ".m2t", ".mod", ".tod", ".flv", ".f4v", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".ogm"),
    *(".mxf", ".dv", ".rm", ".rmvb", ".nut", ".y4m", ".ivf", ".h264", ".264", ".h265", ".265", ".hevc", ".gif"),
)


def is_video(name: str) -> bool:
    """Whether the file called `name` is taken for a video."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


class VideoFolder:
    """The files of the folder `videos` (path or URI) and of its folders, without hidden ones, found by clip id or name.

    Accents compare equal however the file system spells them.
    """

    def __init__(self, videos: str) -> None:
        self.videos = videos
        names = tree_names(videos)
        #: The files that are not videos.
        self.others = [name for name in names if not is_video(name)]
        self._by_id: dict[str, list[str]] = defaultdict(list)
        for name in filter(is_video, names):
            self._by_id[_normal(_without_suffix(name))].append(name)
        for same in self._by_id.values():
            same.sort(key=lambda name: VIDEO_SUFFIXES.index(PurePosixPath(name).suffix.lower()))
        self._ids_by_stem: dict[str, list[str]] = defaultdict(list)
        for clip_id in self._by_id:
            self._ids_by_stem[PurePosixPath(clip_id).name].append(clip_id)
        self._by_path = {_normal(name): name for name in names}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._by_name[_normal(PurePosixPath(name).name)].append(name)

    def clips(self) -> list[tuple[str, str]]:
        """Clip id and name of all videos, in the order of names; those that differ in their suffix stand together."""
        return [(_without_suffix(name), name) for same in self._by_id.values() for name in same]

    def find(self, clip_id: str, video: str | None) -> str:
        """The path or URI of the video that a table calls `video`, or else of the clip `clip_id`.

        Either may omit the folders where the name is unique. Raises VideoMissing, and ValueError for an ambiguous name.
        """
        if video and (is_remote(video) or video.startswith("/")):
            return video
        names = self._called(_normal(video)) if video else self._of_clip(_normal(clip_id))
        if len(names) > 1:
            raise ValueError(f"{video or clip_id!r} may be {', '.join(names)}; name its folder, too")
        if not names and video and "/" in video:  # a link or a path out of the folder, which reading will follow
            names = [video]
        if not names:
            raise VideoMissing(
                f"There is no video {video or clip_id + '.mp4'}.",
                where=self.videos,
                remedy="Add the file, name it in the column `video`, or drop the line.",
            )
        return join(self.videos, names[0])

    def _called(self, name: str) -> list[str]:
        return [self._by_path[name]] if name in self._by_path else self._by_name.get(name, [])

    def _of_clip(self, clip_id: str) -> list[str]:
        ids = [clip_id] if clip_id in self._by_id else self._ids_by_stem.get(clip_id, [])
        return [self._by_id[known][0] for known in ids]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
