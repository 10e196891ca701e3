"""Pairs from whole data sets of scores: shard by shard, with the pairs from ratings, the phases and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.schema import AUDIOSCORE, SCORE_NAMES, SCORES
from v2a_dpo.config import MineConfig
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import AudioScore, score_matrix
from v2a_dpo.preference.pairs import Mined, mine_pairs, split_threshold, with_phases
from v2a_dpo.progress import Progress

_HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class MiningSummary:
    """Pairs by source and by phase, clips dropped by rule, and the histogram of AudioScore's complexities.

    `clips_rated` have pairs from their ratings and were not mined. The histogram has equal bins over [0, 1].
    """

    candidates: int
    clips: int
    clips_rated: int
    pairs: dict[str, int]
    phases: dict[str, int]
    dropped: dict[str, int]
    threshold: float
    histogram: list[int]

    def __str__(self) -> str:
        def counts(numbers: dict[str, int]) -> str:
            return ", ".join(f"{count} {name}" for name, count in numbers.items()) or "none"

        return (
            f"{counts(self.pairs)} pairs from {self.candidates} candidates of {self.clips} clips; phases: "
            f"{counts(self.phases)} (threshold {self.threshold:.3f}); dropped: {counts(self.dropped)}"
        )


def mine_scores(
    scored: Dataset, classifier: AudioScore, settings: MineConfig, *, rated: Mined | None, progress: Progress
) -> tuple[pa.Table, MiningSummary]:
    """The pairs of the candidates in `scored` as PAIRS with their phases, and the summary.

    `rated` are the pairs from ratings, which come first; their clips are not mined. Reads one shard at a time. Raises
    UserError when no clip gives a pair, or a clip's candidates are spread over several shards.
    """
    parts, dropped = ([], Counter[str]()) if rated is None else ([rated.pairs], Counter(rated.dropped))
    rated_clips = pa.array([], pa.string()) if rated is None else rated.pairs["clip_id"].combine_chunks()
    clips = clips_rated = 0
    for done, table in enumerate(_whole_clips(scored), start=1):
        is_rated = pc.is_in(table["clip_id"], value_set=rated_clips)
        mined = _mine_shard(table.filter(pc.invert(is_rated)), classifier, settings.min_margin)
        parts.append(mined.pairs)
        dropped.update(mined.dropped)
        clips += pc.count_distinct(table["clip_id"]).as_py()
        clips_rated += pc.count_distinct(table["clip_id"].filter(is_rated)).as_py()
        progress("Mining pairs", done, len(scored.shards))
    pairs = pa.concat_tables(parts)
    if not pairs.num_rows:
        raise UserError(
            f"No clip gives a pair: {dict(dropped)}.",
            where=scored.folder,
            remedy="Lower mine.min_margin, or score more candidates.",
        )
    threshold = split_threshold(pairs, settings.threshold)
    pairs = with_phases(pairs, threshold)
    complexity = pairs.filter(pc.equal(pairs["source"], AUDIOSCORE))["complexity"].to_numpy()
    summary = MiningSummary(
        candidates=scored.num_rows,
        clips=clips,
        clips_rated=clips_rated,
        pairs=_counts(pairs["source"]),
        phases=_counts(pairs["phase"]),
        dropped=dict(dropped),
        threshold=threshold,
        histogram=np.histogram(complexity, bins=_HISTOGRAM_BINS, range=(0, 1))[0].tolist(),
    )
    return pairs, summary


def probabilities_by_candidate(classifier: AudioScore, scored: Dataset) -> dict[tuple[str, int], np.ndarray]:
    """AudioScore's probabilities (one row of length K) of the candidates in `scored`, by (clip, sample)."""
    table = scored.table([*SCORES.key, *SCORE_NAMES])
    keys = zip(table["clip_id"].to_pylist(), table["sample"].to_pylist(), strict=True)
    return dict(zip(keys, classifier.probabilities(score_matrix(table)), strict=True))


def _mine_shard(table: pa.Table, classifier: AudioScore, min_margin: float) -> Mined:
    matrix = score_matrix(table)
    is_scored = np.isfinite(matrix).any(axis=1)
    samples, probabilities = table["sample"].to_numpy(), classifier.probabilities(matrix)
    return mine_pairs(table["clip_id"], samples, probabilities, is_scored, min_margin=min_margin)


def _whole_clips(scored: Dataset) -> Iterator[pa.Table]:
    """The shards' keys and scores; raises UserError when a clip's candidates are spread over several shards."""
    seen: set[str] = set()
    for entry in scored.shards:
        table = scored.shard(entry, [*SCORES.key, *SCORE_NAMES])
        clip_ids = set(pc.unique(table["clip_id"]).to_pylist())
        if not seen.isdisjoint(clip_ids):
            raise UserError(
                f"The candidates of clip {min(seen & clip_ids)!r} are spread over several shards.",
                where=join(scored.folder, entry.name),
                remedy="Write every clip's candidates into one shard; `v2a-dpo score` does.",
            )
        seen |= clip_ids
        yield table


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items()))
