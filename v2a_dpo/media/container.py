"""Opening media containers of any format, locally or on S3; references to other files are not followed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import chain
from typing import overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.format import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from v2a_dpo.artifacts.location import filesystem, is_remote, reported, require_bucket
from v2a_dpo.media.errors import VideoMissing, VideoUnreadable

#: FFmpeg would otherwise follow a playlist in disguise (`ffconcat`, HLS) to any file or address that it names.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}
#: Containers round times (Matroska and FLV to ms): a frame this little (s) late counts as in time.
TIME_SLACK_S = 1e-3
#: Without an index, seeking lands anywhere between key frames; then it is tried this much earlier, in s.
_SEEK_BACK_S = (0.0, 2.0, 10.0, 60.0)
#: What comes first after seeking is not exact: sound (AAC, MP3, Opus), the times of pictures in AVI and MPEG-PS. In s.
_SOUND_WARM_UP_S = 0.2
_PICTURE_WARM_UP_S = {"avi": 2.0, "mpeg": 2.0}
#: One more than any codec holds back.
_REORDERED_FRAMES = 17


@contextmanager
def open_media(path: str) -> Iterator[InputContainer]:
    """The opened container at `path`, a local path or a URI such as `s3://bucket/clip.mp4`.

    Raises VideoMissing when there is no file, VideoUnreadable when it cannot be opened or when FFmpeg gives up on it
    while the container is in use, and a plain UserError when a remote location cannot be reached: that is no fault of
    the clip.
    """
    damage = av.FFmpegError if is_remote(path) else (av.FFmpegError, OSError)
    with reported("read", path):
        fs, inner = filesystem(path)
        try:
            with fs.open(inner, "rb") as file, av.open(file, options=_NO_OTHER_FILES) as container:
                yield container
        except FileNotFoundError as error:
            require_bucket(error, path)
            raise VideoMissing("There is no such video file.", where=path, remedy="Check the path.") from error
        except MemoryError:  # FFmpeg's own is an FFmpegError, too: no fault of the clip
            raise
        except damage as error:
            raise VideoUnreadable(
                f"This is no readable video: {reason(error)}.", where=path, remedy="Download or export the file again."
            ) from error


def reason(error: Exception) -> str:
    """The message of FFmpeg or the operating system, without numbers and file names."""
    return getattr(error, "strerror", None) or str(error)


def start_time_s(container: InputContainer) -> float:
    """When the container's time starts, in s; times inside are counted from there (MPEG-TS starts anywhere)."""
    return (container.start_time or 0) / av.time_base


@overload
def decode_from(
    container: InputContainer, stream: VideoStream, *, start_s: float
) -> Iterator[tuple[VideoFrame, float | None]]: ...


@overload
def decode_from(
    container: InputContainer, stream: AudioStream, *, start_s: float
) -> Iterator[tuple[AudioFrame, float | None]]: ...


def decode_from(
    container: InputContainer, stream: VideoStream | AudioStream, *, start_s: float
) -> Iterator[tuple[VideoFrame | AudioFrame, float | None]]:
    """The stream's decoded frames with the seconds from `start_s` to the time of each.

    They begin at or before `start_s` (with negative times) whenever the stream does, in any container: the caller
    drops what it does not need. That costs the frames since the last key frame where the container has an index,
    and a decode from the beginning at worst. Of a file without times (None), all frames are returned.
    Call it once, on a container that was just opened.
    """
    origin_s = start_time_s(container) + start_s
    picture_warm_up_s = _PICTURE_WARM_UP_S.get(container.format.name, 0.0)
    exact_from_s = start_s - (_SOUND_WARM_UP_S if isinstance(stream, AudioStream) else picture_warm_up_s)
    places_s = [exact_from_s - back_s for back_s in _SEEK_BACK_S if back_s < exact_from_s]
    if Flags.no_timestamps in Flags(container.format.flags):
        places_s = []
    frames: Iterator[VideoFrame | AudioFrame] = iter(())
    for place_s in places_s:
        try:
            _seek(container, stream, start_time_s(container) + place_s)
            frames = _decoded(container, stream, from_key_frame=True)
            first = next(frames, None)
        except av.FFmpegError:  # there is no such place, or nothing there that can be decoded on its own
            continue
        if (
            first is not None
            and first.time is not None
            and first.time - origin_s <= exact_from_s - start_s + TIME_SLACK_S
        ):
            frames = chain([first], frames)
            break
    else:
        if places_s:
            _seek(container, stream, start_time_s(container) - 10.0, backward=False)  # the first place after that
        frames = _decoded(container, stream, from_key_frame=False)
    for frame in frames:
        yield frame, None if frame.time is None else frame.time - origin_s


def _is_avi_picture(container: InputContainer, stream: VideoStream | AudioStream) -> bool:
    return container.format.name == "avi" and isinstance(stream, VideoStream)


def _seek(
    container: InputContainer, stream: VideoStream | AudioStream, time_s: float, *, backward: bool = True
) -> None:
    container.seek(int(time_s / (stream.time_base or 1)), stream=stream, backward=backward)


def _decoded(
    container: InputContainer, stream: VideoStream | AudioStream, *, from_key_frame: bool
) -> Iterator[VideoFrame | AudioFrame]:
    """The frames from here on, or from the next key frame on.

    An AVI stores only when its pictures are decoded: the n-th one shown gets the n-th of those times.
    """
    frames = _decoded_packets(container, stream, from_key_frame=from_key_frame)
    return _in_order_of_times(frames) if _is_avi_picture(container, stream) else frames


def _decoded_packets(
    container: InputContainer, stream: VideoStream | AudioStream, *, from_key_frame: bool
) -> Iterator[VideoFrame | AudioFrame]:
    first_pts: int | None = None
    for packet in container.demux(stream):
        if _is_avi_picture(container, stream):
            packet.pts = packet.dts
        if from_key_frame:
            if not packet.is_keyframe and packet.size > 0:  # the demuxer ends with an empty packet
                continue
            from_key_frame, first_pts = False, packet.pts
        for frame in stream.decode(packet):
            # Some decoders return pictures shown before the key frame, though half of their data is missing.
            if first_pts is None or frame.pts is None or frame.pts >= first_pts:
                yield frame


def _in_order_of_times(frames: Iterator[VideoFrame | AudioFrame]) -> Iterator[VideoFrame | AudioFrame]:
    """The same frames in the same order, their times sorted."""
    waiting: deque[VideoFrame | AudioFrame] = deque()
    times: list[int] = []
    for frame in frames:
        waiting.append(frame)
        heappush(times, frame.pts or 0)
        if len(waiting) > _REORDERED_FRAMES:
            waiting[0].pts = heappop(times)
            yield waiting.popleft()
    for frame in waiting:
        frame.pts = heappop(times)
        yield frame
