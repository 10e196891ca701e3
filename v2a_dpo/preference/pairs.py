"""Best-against-worst pairs of a clip's candidates (paper 2.2, Eq. 2), their complexity and the curriculum split (2.3,
Eq. 3).

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

#: Why a clip gives no pair, in the order in which the rules are asked; each dropped clip counts once.
TOO_FEW_CANDIDATES, TIE, SAME_CANDIDATE, SMALL_MARGIN = "too_few_candidates", "tie", "same_candidate", "small_margin"
RULES = (TOO_FEW_CANDIDATES, TIE, SAME_CANDIDATE, SMALL_MARGIN)
NO_RATING_GAP = "no_rating_gap"

#: PAIRS before the curriculum split.
_COLUMNS = pa.schema([field for field in PAIRS.arrow if field.name != "phase"])


@dataclass(frozen=True)
class Mined:
    """Pairs without their phase, and how many clips each rule dropped."""

    pairs: pa.Table
    dropped: Counter[str]


def complexity(
    winner_good: np.ndarray, winner_bad: np.ndarray, loser_good: np.ndarray, loser_bad: np.ndarray
) -> np.ndarray:
    """The complexity score of pairs (paper Eq. 3): how far AudioScore sees winner and loser apart; high means an easy
    pair.

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
    `min_margin`. A clip's rows need not be neighbours, but must all be here.
    """
    encoded = (clip_id.combine_chunks() if isinstance(clip_id, pa.ChunkedArray) else clip_id).dictionary_encode()
    group_R = encoded.indices.to_numpy()
    num_clips = len(encoded.dictionary)
    rows = np.flatnonzero(scored_R)
    winner_G, winner_ties_G = _group_argmax(probabilities_RK[:, GOOD], group_R, rows, num_clips)
    loser_G, loser_ties_G = _group_argmax(probabilities_RK[:, BAD], group_R, rows, num_clips)
    good_G, bad_G = probabilities_RK[winner_G], probabilities_RK[loser_G]

    too_few_G = np.bincount(group_R[rows], minlength=num_clips) < 2
    failing = (
        (TOO_FEW_CANDIDATES, too_few_G),
        (TIE, winner_ties_G | loser_ties_G),
        (SAME_CANDIDATE, winner_G == loser_G),
        (SMALL_MARGIN, good_G[:, GOOD] - bad_G[:, GOOD] < min_margin),
    )
    keep_G = np.ones(num_clips, dtype=bool)
    dropped: Counter[str] = Counter()
    for rule, fails_G in failing:
        dropped[rule] = int((keep_G & fails_G).sum())
        keep_G &= ~fails_G
    pairs = {
        "clip_id": encoded.dictionary.filter(pa.array(keep_G)),
        "winner": sample_R[winner_G[keep_G]],
        "loser": sample_R[loser_G[keep_G]],
        "winner_good": good_G[keep_G, GOOD],
        "winner_bad": good_G[keep_G, BAD],
        "loser_good": bad_G[keep_G, GOOD],
        "loser_bad": bad_G[keep_G, BAD],
        "complexity": complexity(good_G[keep_G, GOOD], good_G[keep_G, BAD], bad_G[keep_G, GOOD], bad_G[keep_G, BAD]),
        "source": pa.repeat(AUDIOSCORE, int(keep_G.sum())),
    }
    return Mined(pa.table(pairs).cast(_COLUMNS), dropped)


def _group_argmax(
    value_R: np.ndarray, group_R: np.ndarray, rows: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first row of the greatest value in each group among `rows` (0 in a group without any), and whether others
    equal it."""
    best_G = np.full(num_groups, -np.inf, dtype=value_R.dtype)
    np.maximum.at(best_G, group_R[rows], value_R[rows])
    at_best = rows[value_R[rows] == best_G[group_R[rows]]]
    first_G = np.zeros(num_groups, dtype=np.int64)
    first_G[group_R[at_best][::-1]] = at_best[::-1]
    return first_G, np.bincount(group_R[at_best], minlength=num_groups) > 1


def rated_pairs(ratings: pa.Table, probabilities: Mapping[tuple[str, int], np.ndarray]) -> Mined:
    """One pair of complexity 0 for each rated clip: its best against its worst rated candidate, Good against Bad if
    there are.

    A candidate's rating is the mean over its raters. Among equally rated ones AudioScore's `probabilities` decide by
    (clip, sample), where it has them, and then the sample index. A clip whose candidates are all rated alike gives
    none. The source is `simulated` as soon as one of the clip's ratings is, otherwise `human`.
    """
    value = pc.index_in(ratings["rating"], value_set=pa.array(LABELS)).cast(pa.float64())
    simulated = pc.equal(ratings["source"], SIMULATED).cast(pa.int8())
    table = ratings.append_column("value", value).append_column("simulated", simulated)
    candidates = table.group_by(["clip_id", "sample"]).aggregate([("value", "mean"), ("simulated", "max")])
    clips: dict[str, list[tuple[int, float, bool]]] = {}
    for row in candidates.sort_by([("clip_id", "ascending"), ("sample", "ascending")]).to_pylist():
        rated = (row["sample"], row["value_mean"], bool(row["simulated_max"]))
        clips.setdefault(row["clip_id"], []).append(rated)

    pairs, dropped = [], Counter({NO_RATING_GAP: 0})
    for clip_id, rated_candidates in clips.items():
        known = {sample: probabilities.get((clip_id, sample)) for sample, _, _ in rated_candidates}

        def chance(sample: int, label: int, known: Mapping[int, np.ndarray | None] = known) -> float:
            row = known[sample]
            return 0.0 if row is None else float(row[label])

        # LABELS run from good to bad, so a smaller mean is a better rating.
        winner, best, _ = min(rated_candidates, key=lambda item: (item[1], -chance(item[0], GOOD), item[0]))
        loser, worst, _ = max(rated_candidates, key=lambda item: (item[1], chance(item[0], BAD), -item[0]))
        if best == worst:
            dropped[NO_RATING_GAP] += 1
            continue
        of_winner, of_loser = known[winner], known[loser]
        pairs.append(
            {
                "clip_id": clip_id,
                "winner": winner,
                "loser": loser,
                "winner_good": None if of_winner is None else float(of_winner[GOOD]),
                "winner_bad": None if of_winner is None else float(of_winner[BAD]),
                "loser_good": None if of_loser is None else float(of_loser[GOOD]),
                "loser_bad": None if of_loser is None else float(of_loser[BAD]),
                "complexity": 0.0,
                "source": SIMULATED if any(item[2] for item in rated_candidates) else HUMAN,
            }
        )
    return Mined(pa.Table.from_pylist(pairs, schema=_COLUMNS), dropped)


def split_threshold(pairs: pa.Table, threshold: Threshold) -> float:
    """The complexity above which a pair is easy: the given value, or the given quantile over all pairs, rated ones
    counted.

    Raises UserError when more than the quantile's share of the pairs is rated: rated pairs are hard whatever the
    threshold.
    """
    if threshold.quantile is None:
        return float(threshold.value or 0.0)
    rated = 1 - pc.mean(pc.equal(pairs["source"], AUDIOSCORE)).as_py()
    if rated > threshold.quantile:
        raise UserError(
            f"{threshold.quantile:g} of all pairs are to be hard, but {rated:.3f} of them come from "
            "ratings and always are.",
            where="mine.threshold.quantile",
            remedy=f"Set it above {rated:.3f}, give mine.threshold.value instead, or mine more clips.",
        )
    return float(np.quantile(pairs["complexity"].to_numpy(), threshold.quantile))


def with_phases(pairs: pa.Table, threshold: float) -> pa.Table:
    """The pairs with their phase: `easy` above the threshold, `hard` otherwise; rated pairs are always hard."""
    is_easy = pc.and_(pc.greater(pairs["complexity"], threshold), pc.equal(pairs["source"], AUDIOSCORE))
    return pairs.append_column("phase", pc.if_else(is_easy, EASY, HARD)).cast(PAIRS.arrow)
