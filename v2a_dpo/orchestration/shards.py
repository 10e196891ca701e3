"""Divides the shards of a data set among parallel workers."""

from __future__ import annotations

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.config import Params
from v2a_dpo.data.captions import read_clips
from v2a_dpo.errors import UserError
from v2a_dpo.media.video_files import VideoFolder
from v2a_dpo.progress import Progress, silent


def plan_shards(
    params: Params,
    *,
    data: str | None = None,
    videos: str | None = None,
    captions: str | None = None,
    split: str = "test",
    progress: Progress = silent,
) -> list[str]:
    """One text per worker, such as `0-31`: its consecutive shards, at most `orchestration.shards_per_task`.

    The shards are those of the finished data set `data` (candidates have the shards of their conditions, scores those
    of their candidates), or those that `prepare` will make of `videos`. Raises UserError when there are none.
    """
    if data is not None:
        count = len(Dataset.open(data).shards)
    elif videos is not None:
        clips = len(read_clips(VideoFolder(videos), captions, split=split))
        count = -(-clips // params.prepare.clips_per_shard)
    else:
        raise ValueError("name the data or the videos")
    if not count:
        raise UserError("There are no clips.", where=data or videos or "", remedy="Name other videos.")
    size = params.orchestration.shards_per_task
    progress("Planning", count, count)
    return [f"{first}-{min(first + size, count) - 1}" for first in range(0, count, size)]
