"""Reading frames of real videos: any container, rate, size, orientation and colours, in one decode for all streams.

Which frames are taken and how they are resized follows MMAudio (hkchengrex/MMAudio, `mmaudio/data/av_utils.py`,
inference path), because its networks were trained on pictures made like that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import av
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn.functional import interpolate

from v2a_dpo.media.container import TIME_SLACK_S, decode_from, open_media, start_time_s
from v2a_dpo.media.errors import VideoTooShort, VideoUnreadable
from v2a_dpo.media.picture import PictureReader

#: The longest step from frame to frame of a steady rate (10 per second, rounded) in s; how many times longer is uneven.
_LONGEST_STEP_S, _UNEVEN = 0.11, 1.5
#: The most by which a picture may end before its clip, in s.
_LONGEST_FORGIVEN_S = 0.2
#: Durations that files declare are rounded, or guessed from a part of the file, by this much in s.
_ROUNDED_DURATION_S = 0.5


@dataclass(frozen=True)
class FrameStream:
    """One stream of frames that a network takes: uint8 `[T, 3, height, width]` at `rate` per second.

    `fit` is how the picture reaches its size: `stretch` ignores the aspect ratio, `crop` scales the shorter side
    and cuts the centre (MMAudio's CLIP and Synchformer streams, in this order).
    """

    name: str
    rate: float
    height: int
    width: int
    fit: Literal["stretch", "crop"]

    def num_frames(self, duration_s: float) -> int:
        """Frames in `duration_s` seconds, rounded down; the tolerance absorbs binary fractions such as 0.28 x 25."""
        return int(duration_s * self.rate + 1e-6)


@dataclass(frozen=True)
class VideoFacts:
    """Facts from a video's header: frames per second, size as shown (upright, square pixels), seconds, and sound.

    `frame_rate` is 0 and `duration_s` None where the container has none.
    """

    frame_rate: float
    width: int
    height: int
    duration_s: float | None
    has_audio: bool
    codec: str


class FramePicker:
    """Counts how often each frame of a rising sequence is taken to reach `rate` frames per second.

    At steady rates as in the networks' training: a frame is taken for every target time that it has reached.
    Target times are added up in double precision, so that they drift: at exactly 25 fps frame 6 is not taken and
    frame 7 twice. Across a gap the frame before it is taken, since it is the one that is shown.
    """

    def __init__(self, rate: float) -> None:
        self._target_s = 0.0
        self._between_targets_s = 1.0 / rate
        self._last_s: float | None = None
        self._last_step_s = _LONGEST_STEP_S

    def take(self, time_s: float) -> tuple[int, int]:
        """How often the frame before, and then the frame shown from `time_s` on, are taken."""
        if self._follows_gap(time_s):
            return self._reach(time_s - TIME_SLACK_S), self._reach(time_s + TIME_SLACK_S)
        return 0, self._reach(max(0.0, time_s))

    def _follows_gap(self, time_s: float) -> bool:
        if self._last_s is None:
            self._last_s = time_s
            return False
        step_s, usual_s = time_s - self._last_s, self._last_step_s
        self._last_s, self._last_step_s = time_s, step_s
        return step_s > min(_LONGEST_STEP_S, _UNEVEN * usual_s)

    def _reach(self, time_s: float) -> int:
        """The number of target times up to `time_s` without a frame yet."""
        count = 0
        while time_s >= self._target_s:
            count += 1
            self._target_s += self._between_targets_s
        return count


def probe(path: str) -> VideoFacts:
    """The facts of the video at `path` (local or URI) from its header and its first frame.

    Raises VideoMissing or VideoUnreadable; a file without a single frame is unreadable.
    """
    with open_media(path) as container:
        stream = video_stream(container, path)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise _no_frames(path)
        height, width = PictureReader(stream, path).shown_size(frame)
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        duration_s = float(length) if length else (container.duration / av.time_base if container.duration else None)
        return VideoFacts(
            frame_rate=frame_rate_of(stream),
            width=width,
            height=height,
            duration_s=duration_s,
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
        )


def read_frames(
    path: str, streams: Sequence[FrameStream], *, start_s: float = 0.0, duration_s: float, threads: int = 0
) -> dict[str, Tensor]:
    """The frames from `start_s` on: stream name -> uint8 `[T, 3, height, width]`, T = `stream.num_frames(duration_s)`.

    One decode serves all streams. `threads` are the decoder's, 0 as many as there are cores.
    A frame is shown until the next one, the last for its own duration. Networks need all T frames, so a clip is never
    shortened silently: VideoTooShort is raised when the picture ends more than one of the video's own frame intervals
    (at most 0.2 s) before the clip does; within it, the last frame is shown longer.
    Raises VideoMissing, PictureTooSmall, and VideoUnreadable when the file is damaged or empty, holds nothing but a
    cover, or is cut off: picture and sound end before the declared duration.
    """
    with open_media(path) as container:
        source = video_stream(container, path)
        source.codec_context.thread_type = "AUTO"
        source.codec_context.thread_count = threads
        taken = _TakenFrames(streams, PictureReader(source, path))
        times_s: list[float] = []
        end_s = 0.0
        for frame, time_s in timed_frames(container, source, start_s=start_s):
            if time_s > duration_s:
                end_s = time_s
                break
            times_s.append(time_s)
            taken.show(frame, time_s)
            end_s = time_s + shown_s(frame)
        interval_s = _mean_interval_s(times_s, frame_rate_of(source))
        declared_s = container.duration / av.time_base if container.duration else 0.0
    if not times_s and end_s > 0:
        raise VideoUnreadable(
            f"This clip has no picture: it begins {end_s:.2f} s later.", where=path, remedy="Start the clip later."
        )
    if not times_s and start_s == 0:
        raise _no_frames(path)
    if times_s and end_s <= times_s[-1]:  # the last frame has no duration
        end_s = times_s[-1] + interval_s
    if end_s + min(interval_s, _LONGEST_FORGIVEN_S) < duration_s - 1e-6 or end_s <= 0:
        raise _too_short(path, start_s=start_s, duration_s=duration_s, end_s=end_s, declared_s=declared_s)
    return taken.filled_up(duration_s)


class _TakenFrames:
    """Collects, at their sizes, the frames that each stream takes of those shown in order."""

    def __init__(self, streams: Sequence[FrameStream], reader: PictureReader) -> None:
        self._streams, self._reader = streams, reader
        self._pickers = [FramePicker(stream.rate) for stream in streams]
        self._taken: list[list[Tensor]] = [[] for _ in streams]
        self._last: VideoFrame | None = None

    def show(self, frame: VideoFrame, time_s: float) -> None:
        counts = [picker.take(time_s) for picker in self._pickers]
        if self._last is not None:
            self._take(self._last, [before for before, _ in counts])
        self._take(frame, [count for _, count in counts])
        self._last = frame

    def filled_up(self, duration_s: float) -> dict[str, Tensor]:
        """All frames taken, cut or filled up with the last one: stream name -> uint8 `[T, 3, height, width]`."""
        lengths = [stream.num_frames(duration_s) for stream in self._streams]
        if self._last is not None:
            self._take(self._last, [count - len(taken) for count, taken in zip(lengths, self._taken, strict=True)])
        return {
            stream.name: torch.stack(taken[:count])
            for stream, taken, count in zip(self._streams, self._taken, lengths, strict=True)
        }

    def _take(self, frame: VideoFrame, counts: Sequence[int]) -> None:
        if max(counts) <= 0:
            return
        picture, shown_size = self._reader.rgb(frame), self._reader.shown_size(frame)
        for stream, taken, count in zip(self._streams, self._taken, counts, strict=True):
            if count > 0:
                taken.extend([resize(picture, stream, shown_size=shown_size)] * count)


def resize(picture: Tensor, stream: FrameStream, *, shown_size: tuple[int, int] | None = None) -> Tensor:
    """The uint8 picture `[3, H, W]` at the stream's size, bicubic with antialiasing and rounded to uint8.

    `shown_size` is the height and width of the picture with square pixels, where its own are not.
    Equals torchvision's `transforms.v2.Resize` and `CenterCrop` bit by bit (tested) without its import, which takes
    seconds in every worker process.
    """
    height, width = shown_size or picture.shape[-2:]
    if stream.fit == "stretch":
        size = (stream.height, stream.width)
    elif height * stream.width <= width * stream.height:
        size = (stream.height, max(stream.width, int(stream.height * width / height)))
    else:
        size = (max(stream.height, int(stream.width * height / width)), stream.width)
    if size != tuple(picture.shape[-2:]):
        picture = interpolate(picture[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
    top, left = round((size[0] - stream.height) / 2), round((size[1] - stream.width) / 2)
    return picture[:, top : top + stream.height, left : left + stream.width]


def video_stream(container: InputContainer, path: str) -> VideoStream:
    """The container's main video stream; raises VideoUnreadable when it has none, or nothing but a cover."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best in films:
        return best
    if films:
        return films[0]
    what = "This file holds no picture but a cover." if best else "This file holds no picture."
    raise VideoUnreadable(what, where=path, remedy="Give a video file.")


def frame_rate_of(stream: VideoStream) -> float:
    """Frames per second, or 0 where the container has none."""
    return float(stream.average_rate or stream.guessed_rate or 0.0)


def timed_frames(
    container: InputContainer, stream: VideoStream, *, start_s: float
) -> Iterator[tuple[VideoFrame, float]]:
    """The frames shown from `start_s` on and their times counted from there; the first may have begun before (< 0)."""
    current: tuple[VideoFrame, float] | None = None
    for index, (frame, stamp_s) in enumerate(decode_from(container, stream, start_s=start_s)):
        # Raw streams have no times; only the order of their frames counts, from the start of the file.
        time_s = index / (frame_rate_of(stream) or 25.0) - start_s if stamp_s is None else stamp_s
        if current and time_s > TIME_SLACK_S:
            yield current
            current = None
        if time_s > TIME_SLACK_S:
            yield frame, time_s
        else:
            current = frame, time_s
    if current:
        yield current


def shown_s(frame: VideoFrame) -> float:
    """The frame's own duration in s, or 0 where it has none."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _mean_interval_s(times_s: Sequence[float], rate: float) -> float:
    if len(times_s) > 1:
        return (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    return 1.0 / rate if rate else 0.0


def _no_frames(path: str) -> VideoUnreadable:
    return VideoUnreadable("This video has no frames.", where=path, remedy="Download or export the file again.")


def _too_short(
    path: str, *, start_s: float, duration_s: float, end_s: float, declared_s: float
) -> VideoTooShort | VideoUnreadable:
    """The error for a picture that ends `end_s` seconds after `start_s`: the file is cut off, or was always short."""
    if declared_s >= start_s + duration_s and declared_s - _last_packet_s(path) > _ROUNDED_DURATION_S:
        return VideoUnreadable(
            f"This video is cut off or damaged: it declares {declared_s:.2f} s, but picture and sound end before that.",
            where=path,
            remedy="Download or export the file again.",
        )
    return VideoTooShort(
        f"This video is too short: {duration_s:g} s from second {start_s:g} on are needed, the picture ends after "
        f"{start_s + end_s if end_s > 0 else declared_s:.2f} s.",
        where=path,
        remedy="Leave the clip out, start it earlier, or lower prepare.duration_s for all clips.",
    )


def _last_packet_s(path: str) -> float:
    """When the last packet of picture or sound ends, in s from the start of the file at `path`."""
    end_s = 0.0
    with open_media(path) as container:
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.pts is not None and packet.time_base:
                packet_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start_time_s(container)
                end_s = max(end_s, packet_s)
    return end_s
