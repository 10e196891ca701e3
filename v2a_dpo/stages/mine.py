"""Stage: preference pairs from scored candidates (paper 2.2), with complexity and curriculum phase (2.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.schema import AUDIOSCORE, PAIRS, RATINGS, SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import AudioScore, score_matrix
from v2a_dpo.preference.audioscore_check import check_audioscore
from v2a_dpo.preference.pairs import Mined, mine_pairs, rated_pairs, split_threshold, with_phases
from v2a_dpo.progress import Progress, silent

_PAIRS_PER_SHARD = 1 << 16
_HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class MiningSummary:
    """What was mined: pairs by source and by phase, clips dropped by rule, and the histogram of AudioScore's
    complexities.

    `clips_rated` were left to their ratings instead of being mined. The histogram has equal bins over [0, 1].
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


def mine(
    params: Params,
    *,
    scores: str,
    audioscore: str,
    output: str,
    ratings: str | None = None,
    rated_scores: str | None = None,
    progress: Progress = silent,
) -> MiningSummary:
    """Writes the preference pairs of the candidates in `scores` to `output`, and the summary to
    `<output>-summary.json`.

    With `ratings` (and `params.mine.human_pairs`) rated clips give pairs too, of complexity 0; `rated_scores` then lets
    AudioScore choose among equally rated candidates. A clip that is rated is not mined as well. Reads shard by shard.
    Raises UserError when AudioScore learned from other scorers' scores, or is no better than a constant answer and
    `params.mine.allow_weak_audioscore` is off.
    """
    scored, classifier = Dataset.open(scores, SCORES), AudioScore.load(audioscore)
    judged = [scored, *([Dataset.open(rated_scores, SCORES)] if rated_scores is not None else [])]
    check_audioscore(audioscore, judged, allow_weak=params.mine.allow_weak_audioscore)
    inputs = {"scores": scored.fingerprint, "audioscore": folder_fingerprint(audioscore)}
    inputs |= _candidates_of(scored, role="candidates")
    parts, dropped = [], Counter[str]()
    rated_clips = pa.array([], pa.string())
    if ratings is not None and params.mine.human_pairs:
        rated = Dataset.open(ratings, RATINGS)
        inputs["ratings"] = rated.fingerprint
        inputs |= _candidates_of(rated, role="rated_candidates")
        if rated_scores is not None:
            scores_of_rated = Dataset.open(rated_scores, SCORES)
            inputs["rated_scores"] = scores_of_rated.fingerprint
            inputs |= _candidates_of(scores_of_rated, role="rated_candidates")
        from_ratings = rated_pairs(rated.table(), _probabilities(classifier, rated_scores))
        parts.append(from_ratings.pairs)
        dropped.update(from_ratings.dropped)
        rated_clips = from_ratings.pairs["clip_id"].combine_chunks()
    clips = clips_rated = 0
    for done, table in enumerate(_whole_clips(scored)):
        is_rated = pc.is_in(table["clip_id"], value_set=rated_clips)
        unrated = table.filter(pc.invert(is_rated))
        mined = _mine_shard(unrated, classifier, params.mine.min_margin)
        parts.append(mined.pairs)
        dropped.update(mined.dropped)
        clips += pc.count_distinct(table["clip_id"]).as_py()
        clips_rated += pc.count_distinct(table["clip_id"].filter(is_rated)).as_py()
        progress("Mining pairs", done + 1, len(scored.shards))

    pairs = pa.concat_tables(parts)
    if not pairs.num_rows:
        raise UserError(
            f"No clip gives a pair: {dict(dropped)}.",
            where=scores,
            remedy="Lower mine.min_margin, or score more candidates.",
        )
    threshold = split_threshold(pairs, params.mine.threshold)
    pairs = with_phases(pairs, threshold)
    mined_complexity = pairs.filter(pc.equal(pairs["source"], AUDIOSCORE))["complexity"].to_numpy()
    summary = MiningSummary(
        candidates=scored.num_rows,
        clips=clips,
        clips_rated=clips_rated,
        pairs=_counts(pairs["source"]),
        phases=_counts(pairs["phase"]),
        dropped=dict(dropped),
        threshold=threshold,
        histogram=np.histogram(mined_complexity, bins=_HISTOGRAM_BINS, range=(0, 1))[0].tolist(),
    )
    built = build_dataset(
        output,
        PAIRS,
        parameters=params.mine,
        inputs=inputs,
        tasks=[
            ShardTask(pairs.slice(start, _PAIRS_PER_SHARD), [*inputs.values(), str(start)])
            for start in range(0, pairs.num_rows, _PAIRS_PER_SHARD)
        ],
        make=ShardContent,
        code=code_of(mine),
        keep=params.keep_artifacts,
    )
    file = f"{output.rstrip('/')}-summary.json"
    if built.other_code.shards:  # what is kept is what the file tells of, not what this code would have mined
        return MiningSummary(**read_json(file))
    write_json(file, asdict(summary))
    return summary


def _candidates_of(source: Dataset, *, role: str) -> dict[str, str]:
    """The fingerprint of the candidates that `source` was made of, if it tells: `align` compares it with those it
    gets."""
    made_of = source.manifest.inputs.get("candidates")
    return {} if made_of is None else {role: made_of}


def _mine_shard(table: pa.Table, classifier: AudioScore, min_margin: float) -> Mined:
    matrix = score_matrix(table)
    probabilities = classifier.probabilities(matrix)
    scored = np.isfinite(matrix).any(axis=1)
    return mine_pairs(table["clip_id"], table["sample"].to_numpy(), probabilities, scored, min_margin=min_margin)


def _whole_clips(scored: Dataset) -> Iterator[pa.Table]:
    """The shards' keys and scores; raises UserError when a clip's candidates are spread over shards."""
    seen: set[str] = set()
    for entry in scored.shards:
        table = scored.shard(entry, [*SCORES.key, *SCORE_NAMES])
        here = set(pc.unique(table["clip_id"]).to_pylist())
        if not seen.isdisjoint(here):
            raise UserError(
                f"The candidates of clip {min(seen & here)!r} are spread over several shards.",
                where=join(scored.folder, entry.name),
                remedy="Write every clip's candidates into one shard; `v2a-dpo score` does.",
            )
        seen |= here
        yield table


def _probabilities(classifier: AudioScore, folder: str | None) -> dict[tuple[str, int], np.ndarray]:
    """AudioScore's opinion of the rated candidates by (clip, sample); empty without their scores."""
    if folder is None:
        return {}
    table = Dataset.open(folder, SCORES).table([*SCORES.key, *SCORE_NAMES])
    keys = zip(table["clip_id"].to_pylist(), table["sample"].to_pylist(), strict=True)
    return dict(zip(keys, classifier.probabilities(score_matrix(table)), strict=True))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {
        item["values"]: item["counts"]
        for item in sorted(pc.value_counts(column).to_pylist(), key=lambda i: i["values"])
    }
