"""One request to a served model, checked before anything is computed."""

from __future__ import annotations

import base64
import binascii
import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from v2a_dpo.artifacts.location import is_remote, local_path
from v2a_dpo.errors import UserError
from v2a_dpo.media.container import open_media
from v2a_dpo.media.errors import MediaError, VideoTooShort
from v2a_dpo.media.video import video_stream
from v2a_dpo.serving.settings import ServingSettings

#: Shortest sound in seconds: below, a generator has too few frames.
MIN_DURATION_S = 1.0
MAX_PROMPT_CHARACTERS = 1000
MAX_SEED = (1 << 63) - 1
COLUMNS = ("video", "video_path", "prompt", "seconds", "seed", "guidance_scale")
#: A float holds every whole number up to this one. In a table in which some rows lack a seed, seeds are floats.
_MAX_EXACT_FLOAT = 1 << 53
_log = logging.getLogger(__name__)


class RequestRefused(Exception):  # noqa: N818 - a refusal is no error of the server
    """The refusal of a request with a message for its sender; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class VideoRequest:
    """A checked request: the video by `path` or as `content`, and the settings of its sound."""

    path: str | None
    content: bytes | None
    prompt: str
    duration_s: float
    seed: int
    guidance_scale: float

    @staticmethod
    def of(row: Mapping[str, Any], settings: ServingSettings) -> VideoRequest:
        """The request in one row of input columns; a missing value is None, NaN, an empty text, or no column at all.

        Raises RequestRefused, also for an unknown column.
        """
        row = {name: value for name, value in row.items() if not _is_missing(value)}
        if unknown := sorted(str(name) for name in row if name not in COLUMNS):
            raise RequestRefused(f"There is no column `{unknown[0]}`; the columns are {', '.join(COLUMNS)}.")
        if ("video" in row) == ("video_path" in row):
            raise RequestRefused("Give exactly one of `video` (bytes; base64 in JSON) and `video_path`.")
        content = _content(row["video"]) if "video" in row else None
        if content is not None and len(content) > settings.max_upload_bytes:
            raise RequestRefused(
                f"The video is too large: {len(content) / (1 << 20):.1f} MiB, at most "
                f"{settings.max_upload_mib:g} are accepted.",
                status=413,
            )
        default_s = min(settings.duration_s, settings.max_duration_s)
        prompt = _text(row, "prompt")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise RequestRefused(
                f"`prompt` is too long: {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS} are accepted."
            )
        return VideoRequest(
            path=_allowed(_text(row, "video_path"), settings) if content is None else None,
            content=content,
            prompt=prompt,
            duration_s=float(
                _number(row, "seconds", default_s, least=MIN_DURATION_S, greatest=settings.max_duration_s)
            ),
            seed=_seed(row),
            guidance_scale=float(
                _number(row, "guidance_scale", settings.guidance_scale, least=1.0, greatest=settings.max_guidance_scale)
            ),
        )

    @contextmanager
    def file(self) -> Iterator[str]:
        """The video's path while the block runs; uploaded content is in a temporary file."""
        if self.path is not None:
            yield self.path
            return
        with NamedTemporaryFile(prefix="v2a-dpo-", suffix=".video") as upload:
            upload.write(self.content or b"")
            upload.flush()
            yield upload.name


@contextmanager
def refusals() -> Iterator[None]:
    """Turns a UserError about a video into a RequestRefused that names no file of the server.

    An error without a fault of the video, such as an unreachable S3 of `video_root`, is logged and becomes a 503.
    """
    try:
        yield
    except VideoTooShort as error:
        raise RequestRefused(f"{error.what} Ask for fewer `seconds`.") from error
    except MediaError as error:
        raise RequestRefused(error.what) from error
    except UserError as error:
        _log.exception("A request failed.")
        raise RequestRefused("The server cannot read its videos now; see its log.", status=503) from error


def check_picture(path: str, settings: ServingSettings) -> None:
    """Refuses a video whose header declares a larger picture than allowed, before a frame is decoded."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        pixels = stream.width * stream.height
    megapixels, limit = pixels / 1e6, settings.max_megapixels
    if megapixels > limit:
        what = f"The picture is too large: {megapixels:.1f} megapixels, at most {limit:g} are accepted."
        raise RequestRefused(what, status=413)


def _allowed(path: str, settings: ServingSettings) -> str:
    """The path if it is inside `video_root`; other files of the server are refused."""
    root = settings.video_root
    if not root:
        raise RequestRefused(
            "This server reads no paths: send the video itself as `video`, or start it with `video_root`.", status=403
        )
    outside = RequestRefused("`video_path` is not in the folder that this server reads.", status=403)
    if is_remote(root):
        if not path.startswith(root.rstrip("/") + "/") or ".." in path.split("/"):
            raise outside
        return path
    if is_remote(path):
        raise outside
    # A relative path counts from the root.
    resolved = (local_path(root) / path.removeprefix("file://")).resolve()
    if not resolved.is_relative_to(Path(root).resolve()):
        raise outside
    return str(resolved)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value)


def _content(video: Any) -> bytes:
    """The video's bytes, which may be base64 text, alone or as a `data:` URL of a browser."""
    if isinstance(video, bytes | bytearray):
        return bytes(video)
    if not isinstance(video, str):
        raise RequestRefused(f"`video` must be the bytes of a video file (base64 in JSON), not {type(video).__name__}.")
    text = video
    if video.startswith("data:"):
        header, _, text = video.partition(",")
        if not header.endswith(";base64"):
            raise RequestRefused("A data URL in `video` must be base64: data:video/mp4;base64,...")
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise RequestRefused("`video` must be the bytes of a video file as base64; this is not base64.") from None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise RequestRefused(f"`{name}` must be text, not {type(value).__name__}.")
    return value


def _number(row: Mapping[str, Any], name: str, default: float, *, least: float, greatest: float) -> float:
    value: Any = row.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RequestRefused(f"`{name}` must be a number, not {type(value).__name__}.")
    if not least <= value <= greatest:
        raise RequestRefused(f"`{name}` must lie between {least:g} and {greatest:g}, not {float(value):g}.")
    return value


def _seed(row: Mapping[str, Any]) -> int:
    seed = _number(row, "seed", 0, least=0, greatest=MAX_SEED)
    if isinstance(seed, float) and (not seed.is_integer() or seed > _MAX_EXACT_FLOAT):
        raise RequestRefused(
            f"`seed` must be a whole number, not {seed:g}; above {_MAX_EXACT_FLOAT} every row needs one of its own."
        )
    return int(seed)
