"""Errors in a user's video or its caption, with file, reason and remedy; stages quarantine the clip."""

# ruff: noqa: N818 - the quarantine table shows these names

from __future__ import annotations

from v2a_dpo.errors import UserError


class MediaError(UserError):
    """An error of one clip; the others can be used."""


class VideoMissing(MediaError):
    """There is no video file for a clip."""


class VideoUnreadable(MediaError):
    """The file is no video, or it is damaged, cut off or empty."""


class VideoTooShort(MediaError):
    """The video ends before the clip does."""


class PictureTooSmall(MediaError):
    """The picture has too few rows or columns to show anything."""


class AudioMissing(MediaError):
    """The file has no sound where sound is needed."""


class AudioUnreadable(MediaError):
    """The file's sound is damaged."""


class CaptionInvalid(MediaError):
    """A line of a caption table cannot be used."""


class DuplicateClip(MediaError):
    """A clip id occurs in the caption table more than once."""
