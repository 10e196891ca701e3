"""Stage of the tiny profile: ratings by the SIMULATED rater; people's ratings come by `import_ratings`."""

from __future__ import annotations

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.schema import RATINGS, SIMULATED, SIMULATED_RATER
from v2a_dpo.artifacts.shards import BuildSummary, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.progress import Progress, silent
from v2a_dpo.tiny.rater import judge, rate
from v2a_dpo.tiny.world import read_events


def annotate(params: Params, *, candidates: str, events: str, output: str, progress: Progress = silent) -> BuildSummary:
    """Rates every candidate Good, Medium or Bad into `output` (source `simulated`); returns the counts.

    The labels are terciles of the rater's quality over all candidates, so they make one shard.
    """
    source = Dataset.open(candidates, "candidates")
    clip_events = read_events(events)

    def make(_: None) -> ShardContent:
        rows: list[tuple[str, int]] = []
        qualities: list[float] = []
        for table in source.tables(["clip_id", "sample", "audio"]):
            for row in table.to_pylist():
                audio = decode_flac(row["audio"]["bytes"])[0]
                rows.append((row["clip_id"], row["sample"]))
                qualities.append(judge(audio.numpy(), clip_events[row["clip_id"]]).quality)
                progress("Rating (simulated)", len(rows), source.num_rows)
        ratings = rate(qualities, rows, seed=params.seed, sigma=params.annotate.sigma, flips=params.annotate.flips)
        origin = {"rater": SIMULATED_RATER, "source": SIMULATED}
        return ShardContent(
            [
                {"clip_id": clip_id, "sample": sample, "rating": rating, **origin}
                for (clip_id, sample), rating in zip(rows, ratings, strict=True)
            ]
        )

    inputs = {"candidates": source.fingerprint, "events": file_checksum(events)}
    return build_dataset(
        output,
        RATINGS,
        parameters=[params.seed, params.annotate],
        inputs=inputs,
        tasks=[ShardTask(None, list(inputs.values()))],
        make=make,
        code=code_of(annotate),
        keep=params.keep_artifacts,
    )
