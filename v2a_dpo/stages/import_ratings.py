"""Stage: ratings from a text table with the columns of RATINGS."""

from __future__ import annotations

from v2a_dpo.annotation.ratings import read_ratings
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.schema import RATINGS
from v2a_dpo.artifacts.shards import BuildSummary, ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent


def import_ratings(
    params: Params, *, csv: str, candidates: str, output: str, progress: Progress = silent
) -> BuildSummary:
    """Writes the ratings in the file `csv` to `output`, after checking every line against the candidates that exist.

    `read_ratings` describes the file. Raises UserError that names the line and field of each mistake, and writes
    nothing then.
    """
    table = Dataset.open(candidates, "candidates").table(["clip_id", "sample"])
    rows = read_ratings(csv, set(zip(table["clip_id"].to_pylist(), table["sample"].to_pylist(), strict=True)))
    progress("Importing ratings", len(rows), len(rows))
    checksum = file_checksum(csv)
    return build_dataset(
        output,
        RATINGS,
        parameters={},
        inputs={"csv": checksum},
        tasks=[ShardTask(rows, [checksum])],
        make=ShardContent,
        code=code_of(import_ratings),
        keep=params.keep_artifacts,
    )
