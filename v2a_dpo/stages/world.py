"""Stage of the tiny profile: its procedural videos as real mp4 files, their captions, and the events in them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import working_folder
from v2a_dpo.artifacts.text_table import write_csv
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.world import ClipEvents, make_split, write_events
from v2a_dpo.worker_pool import WorkerDied, WorkerPool

#: The caption table of the procedural videos.
_COLUMNS = ("clip_id", "video", "prompt", "label", "has_speech")
#: From this many clips on, two processes are faster: each takes seconds to start, and a clip a twentieth of one.
_WORTH_PROCESSES = 128


def world(params: Params, *, output: str, progress: Progress = silent) -> str:
    """Renders the clips of each split into `output/<split>/` with a `captions.csv`, and `output/events.json` last.

    Existing files are kept, unless the parameters changed. Returns a sentence with the counts.
    """
    splits = {
        "annotation": params.world.annotation_clips,
        "preference": params.world.preference_clips,
        "test": params.world.test_clips,
    }
    clip_events = {split: make_split(params.seed, split, count) for split, count in splits.items()}
    made_with = fingerprint(params.seed, splits)
    with working_folder(output, made_with, code=code_of(world), keep=params.keep_artifacts) as folder:
        videos = [
            (folder / split / f"{events.clip_id}.mp4", events)
            for split, clips in clip_events.items()
            for events in clips
        ]
        missing = [(path, events) for path, events in videos if not path.exists()]
        with WorkerPool(_render, workers=2 if len(missing) >= _WORTH_PROCESSES else 0) as pool:
            for done, result in enumerate(pool.map(missing), start=1):
                if isinstance(result, WorkerDied):
                    raise result
                progress("Rendering", done, len(missing))
        for split, clips in clip_events.items():
            write_csv(folder / split / "captions.csv", _COLUMNS, map(_caption, clips))
        write_events(folder / "events.json", chain(*clip_events.values()))
    return f"{len(videos)} videos: {len(missing)} rendered, {len(videos) - len(missing)} kept"


def _render(job: tuple[Path, ClipEvents]) -> None:
    path, events = job
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip_mp4(path, events)


def _caption(events: ClipEvents) -> list[str]:
    return [events.clip_id, f"{events.clip_id}.mp4", events.prompt, events.label, str(events.has_speech).lower()]
