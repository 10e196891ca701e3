"""Stage: preference pairs from scored candidates (paper 2.2), with complexity and curriculum phase (2.3)."""

from __future__ import annotations

from dataclasses import asdict

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.schema import PAIRS, RATINGS, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.preference.audioscore import AudioScore, check_audioscore
from v2a_dpo.preference.mining import MiningSummary, mine_scores, probabilities_by_candidate
from v2a_dpo.preference.pairs import rated_pairs
from v2a_dpo.progress import Progress, silent

_PAIRS_PER_SHARD = 1 << 16


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
    """Writes the preference pairs of the candidates in `scores` to `output`, and `<output>-summary.json`.

    With `ratings` (and `params.mine.human_pairs`) rated clips give pairs too, of complexity 0; `rated_scores` then lets
    AudioScore choose among equally rated candidates. A rated clip is not mined as well. Reads shard by shard. Raises
    UserError when AudioScore learned from other scorers' scores, or is no better than a constant answer and
    `params.mine.allow_weak_audioscore` is off.
    """
    scored, classifier = Dataset.open(scores, SCORES), AudioScore.load(audioscore)
    scores_of_rated = [] if rated_scores is None else [Dataset.open(rated_scores, SCORES)]
    check_audioscore(audioscore, [scored, *scores_of_rated], allow_weak=params.mine.allow_weak_audioscore)
    inputs = {"scores": scored.fingerprint, "audioscore": folder_fingerprint(audioscore)}
    inputs |= _candidates_of(scored, role="candidates")
    rated = None
    if ratings is not None and params.mine.human_pairs:
        rating_set = Dataset.open(ratings, RATINGS)
        inputs["ratings"] = rating_set.fingerprint
        inputs |= _candidates_of(rating_set, role="rated_candidates")
        probabilities = {}
        for score_set in scores_of_rated:
            inputs["rated_scores"] = score_set.fingerprint
            inputs |= _candidates_of(score_set, role="rated_candidates")
            probabilities = probabilities_by_candidate(classifier, score_set)
        rated = rated_pairs(rating_set.table(), probabilities)
    pairs, summary = mine_scores(scored, classifier, params.mine, rated=rated, progress=progress)
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
    if built.other_code.shards:  # the summary of the kept pairs, not of those that this code would have mined
        return MiningSummary(**read_json(file))
    write_json(file, asdict(summary))
    return summary


def _candidates_of(source: Dataset, *, role: str) -> dict[str, str]:
    """The fingerprint of the candidates that `source` was made of, if recorded; `align` compares it with its inputs."""
    candidates = source.manifest.inputs.get("candidates")
    return {} if candidates is None else {role: candidates}
