"""Reading frames of real videos: any container, rate, size and rotation, in one decode for all streams.

Which frames are taken and how they are resized follows MMAudio (hkchengrex/MMAudio, `mmaudio/data/av_utils.py`, inference path),
because its networks were trained on pictures made like that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn.functional import interpolate

from v2a_dpo.media.container import TIME_SLACK_S, decode_from, open_media
from v2a_dpo.media.errors import VideoTooShort, VideoUnreadable
from v2a_dpo.media.frames import FrameStream


@dataclass(frozen=True)
class VideoFacts:
    """What a video's header says: frames a second, size in pixels as it is shown (after rotation), seconds, and sound.

    `frame_rate` is 0 and `duration_s` None where the container does not tell.
    """

    frame_rate: float
    width: int
    height: int
    duration_s: float | None
    has_audio: bool
    rotation: int
    codec: str


class FramePicker:
    """Says how often each frame of a rising sequence is taken to reach `rate` frames a second.

    A frame is taken for every target time that it has reached. Target times are added up in double precision, so that they
    drift: at exactly 25 fps frame 6 is not taken and frame 7 twice. The networks saw this in training.
    """

    def __init__(self, rate: float) -> None:
        self._next_s = 0.0
        self._step_s = 1.0 / rate

    def take(self, time_s: float) -> int:
        """How often the frame shown from `time_s` on is taken."""
        count = 0
        while time_s >= self._next_s:
            count += 1
            self._next_s += self._step_s
        return count


def pick_frame_indices(times_s: Sequence[float], rate: float, end_s: float) -> list[int]:
    """The indices of the frames taken at `rate` from frames at `times_s` (rising, from 0), none later than `end_s`."""
    picker = FramePicker(rate)
    return [index for index, time_s in enumerate(times_s) if time_s <= end_s for _ in range(picker.take(time_s))]


def probe(path: str) -> VideoFacts:
    """The facts of the video at `path` (local or URI) from its header and its first frame.

    Raises VideoMissing or VideoUnreadable; a file without a single frame is unreadable.
    """
    with open_media(path) as container:
        stream = video_stream(container, path)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise _no_frames(path)
        turned = frame.rotation % 180 != 0
        length = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        duration_s = float(length) if length else (container.duration / av.time_base if container.duration else None)
        return VideoFacts(
            frame_rate=frame_rate_of(stream),
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            duration_s=duration_s,
            has_audio=bool(container.streams.audio),
            rotation=frame.rotation % 360,
            codec=stream.codec_context.name,
        )


def read_frames(
    path: str, streams: Sequence[FrameStream], *, start_s: float = 0.0, duration_s: float, threads: int = 0
) -> dict[str, Tensor]:
    """The frames from `start_s` on, stream name -> uint8 `[T, 3, height, width]` with T = `stream.num_frames(duration_s)`.

    One decode serves all streams. `threads` are the decoder's, 0 as many as there are cores.
    Networks need all T frames, so a clip is never shortened silently: VideoTooShort is raised when the picture ends more
    than one of the video's own frame intervals before the clip does; within it, the last frame is shown longer.
    Raises VideoMissing, and VideoUnreadable when the file is damaged, empty, or cut off before the end that it declares.
    """
    pickers = {stream.name: FramePicker(stream.rate) for stream in streams}
    taken: dict[str, list[Tensor]] = {stream.name: [] for stream in streams}
    num_frames, last_s = 0, 0.0
    converter = VideoReformatter()
    with open_media(path) as container:
        source = video_stream(container, path)
        source.codec_context.thread_type = "AUTO"
        source.codec_context.thread_count = threads
        declared_s = container.duration / av.time_base if container.duration else 0.0
        rate = frame_rate_of(source)
        for frame, time_s in timed_frames(container, source, start_s=start_s):
            if time_s > duration_s:
                break
            num_frames, last_s = num_frames + 1, time_s
            wanted = [(stream, count) for stream in streams if (count := pickers[stream.name].take(max(0.0, time_s)))]
            if wanted:
                picture = upright_picture(frame, converter)
                for stream, count in wanted:
                    taken[stream.name] += [resize(picture, stream)] * count
    if not num_frames:
        if start_s > 0:
            raise _too_short(path, start_s=start_s, duration_s=duration_s, end_s=0.0, declared_s=declared_s)
        raise _no_frames(path)
    interval_s = last_s / (num_frames - 1) if num_frames > 1 else (1.0 / rate if rate else 0.0)
    if any(len(taken[stream.name]) < stream.num_frames(duration_s) for stream in streams):
        # The last frame is shown for one interval more; another one is forgiven, since headers and cutting tools round.
        end_s = last_s + interval_s
        if end_s + interval_s < duration_s - 1e-6:
            raise _too_short(path, start_s=start_s, duration_s=duration_s, end_s=end_s, declared_s=declared_s)
    return {stream.name: _exactly(taken[stream.name], stream.num_frames(duration_s)) for stream in streams}


def resize(picture: Tensor, stream: FrameStream) -> Tensor:
    """The uint8 picture `[3, H, W]` at the stream's size, bicubic with antialiasing and rounded to uint8.

    Equals torchvision's `transforms.v2.Resize` and `CenterCrop` bit by bit (tested) without its import, which takes seconds
    in every worker process.
    """
    height, width = picture.shape[-2:]
    if stream.fit == "stretch":
        size = (stream.height, stream.width)
    elif height * stream.width <= width * stream.height:
        size = (stream.height, max(stream.width, int(stream.height * width / height)))
    else:
        size = (max(stream.height, int(stream.width * height / width)), stream.width)
    if size != (height, width):
        picture = interpolate(picture[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
    top, left = round((size[0] - stream.height) / 2), round((size[1] - stream.width) / 2)
    return picture[:, top : top + stream.height, left : left + stream.width]


def video_stream(container: InputContainer, path: str) -> VideoStream:
    """The container's main video stream; raises VideoUnreadable when it has none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoUnreadable("This file holds no picture.", where=path, remedy="Give a video file.")
    return stream


def frame_rate_of(stream: VideoStream) -> float:
    """Frames a second, or 0 where the container does not tell."""
    return float(stream.average_rate or stream.guessed_rate or 0.0)


def timed_frames(
    container: InputContainer, stream: VideoStream, *, start_s: float
) -> Iterator[tuple[VideoFrame, float]]:
    """The frames shown from `start_s` on with their times counted from there; the first one may have begun before (< 0)."""
    current: tuple[VideoFrame, float] | None = None
    for index, (frame, known_s) in enumerate(decode_from(container, stream, start_s=start_s)):
        # Raw streams carry no times; only the order of their frames counts, from the start of the file.
        time_s = index / (frame_rate_of(stream) or 25.0) - start_s if known_s is None else known_s
        if current and time_s > TIME_SLACK_S:
            yield current
            current = None
        if time_s > TIME_SLACK_S:
            yield frame, time_s
        else:
            current = frame, time_s
    if current:
        yield current


def upright_picture(frame: VideoFrame, converter: VideoReformatter) -> Tensor:
    """The frame as uint8 `[3, H, W]`, turned as the camera was held; one `converter` for all frames of a video."""
    picture = torch.from_numpy(converter.reformat(frame, format="rgb24").to_ndarray()).permute(2, 0, 1)
    turns = round(frame.rotation / 90) % 4
    return torch.rot90(picture, turns, dims=(1, 2)).contiguous() if turns else picture.contiguous()


def _exactly(frames: list[Tensor], count: int) -> Tensor:
    return torch.stack(frames[:count] + frames[-1:] * (count - len(frames)))


def _no_frames(path: str) -> VideoUnreadable:
    return VideoUnreadable("This video has no frames.", where=path, remedy="Download or export the file again.")


def _too_short(
    path: str, *, start_s: float, duration_s: float, end_s: float, declared_s: float
) -> VideoTooShort | VideoUnreadable:
    """The error for a picture that ends at `end_s` seconds after `start_s`."""
    if declared_s >= start_s + duration_s and end_s > 0:
        return VideoUnreadable(
            f"This video is cut off or damaged: it declares {declared_s:.2f} s, but its picture ends after {start_s + end_s:.2f} s.",
            where=path,
            remedy="Download or export the file again.",
        )
    return VideoTooShort(
        f"This video is too short: {duration_s:g} s from second {start_s:g} on are needed, the picture ends after "
        f"{start_s + end_s if end_s else declared_s:.2f} s.",
        where=path,
        remedy="Leave the clip out, start it earlier, or lower prepare.duration_s for all clips.",
    )
