"""How pictures are encoded as H.264: the same ones always give the same bytes on the same machine."""

from __future__ import annotations

#: From `veryfast` on x264's lookahead gives small pictures other bytes in other processes.
_PRESET = "superfast"


def h264_options(crf: int) -> dict[str, str]:
    """The options of a `libx264` stream; `crf` 18 looks like the source, larger is smaller and coarser."""
    return {"preset": _PRESET, "crf": str(crf)}
