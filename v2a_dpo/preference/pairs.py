"""Pairs of each clip's best and worst candidate (paper 2.2, Eq. 2), complexity and curriculum split (2.3, Eq. 3).

Columns in, columns out, shard by shard. Letters in array names: R candidates (rows), G clips (groups), K labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2a_dpo.artifacts.schema import AUDIOSCORE, HUMAN, LABELS, PAIRS, SIMULATED
from v2a_dpo.config import Threshold
from v2a_dpo.errors import UserError
from v2a_dpo.preference.audioscore import BAD, GOOD

EASY, HARD = "easy", "hard"

#: The reasons why a clip gives no pair, in the order in which they are checked; each dropped clip counts once.
TOO_FEW_CANDIDATES, TIE, SAME_CANDIDATE, SMALL_MARGIN = "too_few_candidates", "tie", "same_candidate", "small_margin"
RULES = (TOO_FEW_CANDIDATES, TIE, SAME_CANDIDATE, SMALL_MARGIN)
NO_RATING_GAP = "no_rating_gap"

#: PAIRS before the curriculum split.
_COLUMNS = pa.schema([field for field in PAIRS.arrow if field.name != "phase"])


@dataclass(frozen=True)
class Mined:
    """Pairs without their phase, and the number of clips that each rule dropped."""

    pairs: pa.Table
    dropped: Counter[str]


def complexity(
    winner_good: np.ndarray, winner_bad: np.ndarray, loser_good: np.ndarray, loser_bad: np.ndarray
) -> np.ndarray:
    """The complexity score of pairs (paper Eq. 3): AudioScore's distance of winner and loser; high is an easy pair.

    1/2 [(P(Good | winner) - P(Good | loser)) + (P(Bad | loser) - P(Bad | winner))]: in [-1, 1], and in [0, 1] where the
    winner is the likeliest Good candidate of its clip and the loser the likeliest Bad one.
    """
    return ((winner_good - loser_good) + (loser_bad - winner_bad)) / 2


def mine_pairs(
    clip_id: pa.Array | pa.ChunkedArray,
    sample_R: np.ndarray,
    probabilities_RK: np.ndarray,
    scored_R: np.ndarray,
    *,
    min_margin: float = 0.0,
) -> Mined:
    """One pair for each clip: winner = argmax P(Good), loser = argmax P(Bad) among its scored candidates (Eq. 2).

    A clip gives none when fewer than two candidates are scored (`scored_R` false: no score at all), when the best or
    the worst is not unique, when both are the same candidate, or when P(Good) of winner and loser differ by less than
    `min_margin`. A clip's rows need not be neighbours, but all must be given.
    """
    encoded = (clip_id.combine_chunks() if isinstance(clip_id, pa.ChunkedArray) else clip_id).dictionary_encode()
    group_R = encoded.indices.to_numpy()
    num_clips = len(encoded.dictionary)
    rows = np.flatnonzero(scored_R)
    winner_G, winner_ties_G = _group_argmax(probabilities_RK[:, GOOD], group_R, rows, num_clips)
    loser_G, loser_ties_G = _group_argmax(probabilities_RK[:, BAD], group_R, rows, num_clips)
    too_few_G = np.bincount(group_R[rows], minlength=num_clips) < 2
    failing = (
        (TOO_FEW_CANDIDATES, too_few_G),
        (TIE, winner_ties_G | loser_ties_G),
        (SAME_CANDIDATE, winner_G == loser_G),
        (SMALL_MARGIN, probabilities_RK[winner_G, GOOD] - probabilities_RK[loser_G, GOOD] < min_margin),
    )
    keep_G = np.ones(num_clips, dtype=bool)
    dropped: Counter[str] = Counter()
    for rule, fails_G in failing:
        dropped[rule] = int((keep_G & fails_G).sum())
        keep_G &= ~fails_G
    winner, loser = winner_G[keep_G], loser_G[keep_G]
    pairs = _table(encoded.dictionary.filter(pa.array(keep_G)), sample_R, probabilities_RK, winner, loser)
    return Mined(pairs, dropped)


def _group_argmax(
    value_R: np.ndarray, group_R: np.ndarray, rows: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first row of the greatest value per group among `rows` (0 in a group without any), and whether it is tied."""
    best_G = np.full(num_groups, -np.inf, dtype=value_R.dtype)
    np.maximum.at(best_G, group_R[rows], value_R[rows])
    at_best = rows[value_R[rows] == best_G[group_R[rows]]]
    first_G = np.zeros(num_groups, dtype=np.int64)
    first_G[group_R[at_best][::-1]] = at_best[::-1]
    return first_G, np.bincount(group_R[at_best], minlength=num_groups) > 1


def rated_pairs(ratings: pa.Table, probabilities: Mapping[tuple[str, int], np.ndarray]) -> Mined:
    """One pair of complexity 0 for each rated clip: its best against its worst rated candidate.

    A candidate's rating is the mean over its raters. Among equally rated candidates AudioScore's `probabilities` by
    (clip, sample) decide, where known, and then the sample index. A clip whose candidates are all rated alike gives
    none. The source is `simulated` if one of the clip's ratings is, otherwise `human`.
    """
    value = pc.index_in(ratings["rating"], value_set=pa.array(LABELS)).cast(pa.float64())
    simulated = pc.equal(ratings["source"], SIMULATED).cast(pa.int8())
    table = ratings.append_column("value", value).append_column("simulated", simulated)
    table = table.group_by(["clip_id", "sample"]).aggregate([("value", "mean"), ("simulated", "max")])
    table = table.sort_by([("clip_id", "ascending"), ("sample", "ascending")])
    sample_R, value_R = table["sample"].to_numpy(), table["value_mean"].to_numpy()
    unknown = np.full(len(LABELS), np.nan, dtype=np.float32)
    keys = zip(table["clip_id"].to_pylist(), sample_R.tolist(), strict=True)
    probabilities_RK = np.array([probabilities.get(key, unknown) for key in keys]).reshape(-1, len(LABELS))
    chance_RK = np.nan_to_num(probabilities_RK)
    encoded = table["clip_id"].combine_chunks().dictionary_encode()
    group_R = encoded.indices.to_numpy()
    # LABELS run from good to bad, so a smaller mean is a better rating.
    winner_G = _first_rows(group_R, value_R, -chance_RK[:, GOOD])
    loser_G = _first_rows(group_R, -value_R, -chance_RK[:, BAD])
    keep_G = value_R[winner_G] != value_R[loser_G]
    simulated_G = np.bincount(group_R, weights=table["simulated_max"].to_numpy()) > 0
    source = pa.array(np.where(simulated_G, SIMULATED, HUMAN)[keep_G])
    clip_id = encoded.dictionary.filter(pa.array(keep_G))
    pairs = _table(clip_id, sample_R, probabilities_RK, winner_G[keep_G], loser_G[keep_G], rated_as=source)
    return Mined(pairs, Counter({NO_RATING_GAP: int((~keep_G).sum())}))


def _first_rows(group_R: np.ndarray, *keys_R: np.ndarray) -> np.ndarray:
    """The row of each group that is first in ascending order of the keys; of equal rows the first."""
    order = np.lexsort((*reversed(keys_R), group_R))
    return order[np.unique(group_R[order], return_index=True)[1]]


def _table(
    clip_id: pa.Array,
    sample_R: np.ndarray,
    probabilities_RK: np.ndarray,
    winner: np.ndarray,
    loser: np.ndarray,
    *,
    rated_as: pa.Array | None = None,
) -> pa.Table:
    """Pairs of the rows `winner` and `loser`, without their phase; `rated_as` is the source of rated ones, whose
    complexity is 0. NaN becomes null."""
    columns = {"clip_id": clip_id, "winner": sample_R[winner], "loser": sample_R[loser]}
    for side, rows in (("winner", winner), ("loser", loser)):
        for name, label in (("good", GOOD), ("bad", BAD)):
            columns[f"{side}_{name}"] = pa.array(probabilities_RK[rows, label], from_pandas=True)
    good, bad = probabilities_RK[:, GOOD], probabilities_RK[:, BAD]
    rated = rated_as is not None
    columns["complexity"] = (
        np.zeros(len(winner)) if rated else complexity(good[winner], bad[winner], good[loser], bad[loser])
    )
    columns["source"] = rated_as if rated else pa.repeat(AUDIOSCORE, len(winner))
    return pa.table(columns).cast(_COLUMNS)


def split_threshold(pairs: pa.Table, threshold: Threshold) -> float:
    """The complexity above which a pair is easy: the given value, or the given quantile over all pairs, rated or mined.

    Raises UserError when more than the quantile's share of the pairs is rated: those are hard whatever the threshold.
    """
    if threshold.quantile is None:
        return float(threshold.value or 0.0)
    rated = 1 - pc.mean(pc.equal(pairs["source"], AUDIOSCORE)).as_py()
    if rated > threshold.quantile:
        raise UserError(
            f"{threshold.quantile:g} of all pairs are to be hard, but {rated:.3f} of them come from ratings "
            "and always are.",
            where="mine.threshold.quantile",
            remedy=f"Set it above {rated:.3f}, give mine.threshold.value instead, or mine more clips.",
        )
    return float(np.quantile(pairs["complexity"].to_numpy(), threshold.quantile))


def with_phases(pairs: pa.Table, threshold: float) -> pa.Table:
    """The pairs with their phase: `easy` above the threshold, `hard` otherwise; rated pairs are always hard."""
    is_easy = pc.and_(pc.greater(pairs["complexity"], threshold), pc.equal(pairs["source"], AUDIOSCORE))
    return pairs.append_column("phase", pc.if_else(is_easy, EASY, HARD)).cast(PAIRS.arrow)
