"""How the shards of a data set are dealt out to workers that make them at the same time."""

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
    shards_per_task: int,
    data: str | None = None,
    videos: str | None = None,
    captions: str | None = None,
    split: str = "test",
    progress: Progress = silent,
) -> list[str]:
    """A text such as `0-31` for each worker: the shards that it makes, neighbours, at most `shards_per_task` of them.

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
        raise UserError("There is nothing to make: no clips.", where=data or videos or "", remedy="Name other videos.")
    if shards_per_task < 1:
        raise UserError("A task makes at least one shard.", where="shards_per_task", remedy="Give 1 or more.")
    firsts = range(0, count, shards_per_task)
    progress("Planning", count, count)
    return [f"{first}-{min(first + shards_per_task, count) - 1}" for first in firsts]
