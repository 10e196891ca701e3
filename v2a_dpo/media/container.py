"""Opening media containers of any format, locally or on S3, so that a file can only speak for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer

from v2a_dpo.artifacts.location import filesystem, is_remote, reported
from v2a_dpo.media.errors import VideoMissing, VideoUnreadable

#: FFmpeg would otherwise follow a playlist in disguise (`ffconcat`, HLS) to any file or address that it names.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}


@contextmanager
def open_media(path: str) -> Iterator[InputContainer]:
    """The opened container at `path`, a local path or a URI such as `s3://bucket/clip.mp4`.

    Raises VideoMissing when there is no file, VideoUnreadable when it cannot be opened or when FFmpeg gives up on it while
    the container is in use, and a plain UserError when a remote location cannot be reached: that is no fault of the clip.
    """
    damage = av.FFmpegError if is_remote(path) else (av.FFmpegError, OSError)
    with reported("read", path):
        fs, inner = filesystem(path)
        try:
            with fs.open(inner, "rb") as file, av.open(file, options=_NO_OTHER_FILES) as container:
                yield container
        except FileNotFoundError as error:
            raise VideoMissing("There is no such video file.", where=path, remedy="Check the path.") from error
        except damage as error:
            raise VideoUnreadable(
                f"This is no readable video: {reason(error)}.", where=path, remedy="Download or export the file again."
            ) from error


def reason(error: Exception) -> str:
    """What FFmpeg or the operating system says, without numbers and file names."""
    return getattr(error, "strerror", None) or str(error)


def start_time_s(container: InputContainer) -> float:
    """When the container's time starts, in s; times inside are counted from there (MPEG-TS starts anywhere)."""
    return (container.start_time or 0) / av.time_base
