"""Stage: the five scores of every candidate; one that does not apply is null, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.manifest import ShardEntry
from v2a_dpo.artifacts.schema import CLIPS, SCORES
from v2a_dpo.artifacts.shards import BuildSummary, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent
from v2a_dpo.scoring.catalog import KINDS, load_scorers
from v2a_dpo.scoring.engine import CandidateScorer
from v2a_dpo.scoring.pesq import SpeechQuality

_COLUMNS = ("clip_id", "sample", "sample_rate", "audio")


def score(
    params: Params,
    *,
    clips: str,
    candidates: str,
    scorers: str,
    output: str,
    shards: list[int] | None = None,
    progress: Progress = silent,
) -> BuildSummary:
    """Writes the five scores of all `candidates`, made for `clips`, to `output`; returns the counts.

    A clip whose video or whose candidates' audio cannot be read goes to quarantine. `shards` makes only these; a later
    call without it writes the manifest. Raises UserError when candidates belong to clips that are not in `clips`, or
    differ from them in duration.
    """
    source = Dataset.open(candidates, "candidates")
    table = Dataset.open(clips, CLIPS)
    rows = {row["clip_id"]: row for row in table.table().to_pylist()}
    clip_ids = [_clip_ids(source, entry, rows, clips) for entry in source.shards]
    scorers_fingerprint = folder_fingerprint(scorers)
    loaded = load_scorers(params.score.scorers, scorers, pesq_workers=params.score.pesq_workers)
    engine = CandidateScorer(loaded, rows, clips_per_batch=params.score.clips_per_batch)
    total, settled = sum(map(len, clip_ids)), 0

    def report(done: int) -> None:
        nonlocal settled
        settled = min(max(settled, done), total)
        progress("Scoring", settled, total)

    def make(entry: ShardEntry) -> ShardContent:
        return engine.score(source.shard(entry, _COLUMNS), progress=lambda count: report(settled + count))

    with ExitStack() as ending:
        # A process that a workflow engine forked waits at its end for every process of its own.
        for scorer in loaded.values():
            if isinstance(scorer, SpeechQuality):
                ending.callback(scorer.close)
        return build_dataset(
            output,
            SCORES,
            parameters=[params.score.scorers, params.score.clips_per_batch],
            inputs={"clips": table.fingerprint, "candidates": source.fingerprint, "scorers": scorers_fingerprint},
            tasks=[
                ShardTask(entry, [entry.sha256, scorers_fingerprint, fingerprint([rows[clip_id] for clip_id in ids])])
                for entry, ids in zip(source.shards, clip_ids, strict=True)
            ],
            make=make,
            code=code_of(score, f"{KINDS[params.score.scorers]}:load_scorers"),
            keep=params.keep_artifacts,
            progress=lambda done, _: report(sum(map(len, clip_ids[:done]))),
            only=shards,
        )


def _clip_ids(source: Dataset, entry: ShardEntry, rows: Mapping[str, Any], clips: str) -> list[str]:
    """The clips of a shard of candidates; raises UserError for one that has no row in the clips table."""
    clip_ids: list[str] = source.shard(entry, ["clip_id"]).column("clip_id").unique().to_pylist()
    if unknown := [clip_id for clip_id in clip_ids if clip_id not in rows]:
        raise UserError(
            f"{len(unknown)} clips of these candidates are not among the clips, for example {unknown[0]!r}.",
            where=clips,
            remedy="Name the clips of these candidates.",
        )
    return clip_ids
