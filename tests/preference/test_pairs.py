"""Pair mining: winner and loser, the rules that drop a clip, complexity, human pairs, the curriculum split."""

import numpy as np
import pyarrow as pa
import pytest

from v2a_dpo.artifacts.schema import RATINGS
from v2a_dpo.config import Threshold
from v2a_dpo.errors import UserError
from v2a_dpo.preference.pairs import complexity, mine_pairs, rated_pairs, split_threshold, with_phases


def mine(rows, *, scored=None, **options):
    """`rows` are (clip, sample, P(Good), P(Bad))."""
    probabilities = np.array([[good, 1 - good - bad, bad] for _, _, good, bad in rows], dtype=np.float32)
    return mine_pairs(
        pa.array([clip for clip, *_ in rows]),
        np.array([sample for _, sample, *_ in rows], dtype=np.int16),
        probabilities,
        np.ones(len(rows), dtype=bool) if scored is None else np.array(scored),
        **options,
    )


CLIP = [("a", 0, 0.3, 0.4), ("a", 1, 0.7, 0.1), ("a", 2, 0.2, 0.6), ("a", 3, 0.5, 0.2)]


def test_the_winner_is_likeliest_good_and_the_loser_likeliest_bad():
    (pair,) = mine(CLIP).pairs.to_pylist()
    assert (pair["winner"], pair["loser"], pair["source"]) == (1, 2, "audioscore")
    assert pair["winner_good"] == pytest.approx(0.7)
    assert pair["winner_bad"] == pytest.approx(0.1)
    assert pair["loser_good"] == pytest.approx(0.2)
    assert pair["loser_bad"] == pytest.approx(0.6)
    assert pair["complexity"] == pytest.approx(((0.7 - 0.2) + (0.6 - 0.1)) / 2)


def test_complexity_is_half_the_gap_in_good_plus_half_the_gap_in_bad():
    """Worked out by hand: a certain pair, an ordinary one, two candidates that AudioScore cannot tell apart, a wrong
    order."""
    found = complexity(
        winner_good=np.array([1.0, 0.9, 0.4, 0.1]),
        winner_bad=np.array([0.0, 0.05, 0.3, 0.7]),
        loser_good=np.array([0.0, 0.2, 0.4, 0.6]),
        loser_bad=np.array([1.0, 0.5, 0.3, 0.2]),
    )
    np.testing.assert_allclose(found, [1.0, (0.7 + 0.45) / 2, 0.0, -0.5])


def test_complexity_of_mined_pairs_lies_between_zero_and_one():
    draws = np.random.default_rng(1).dirichlet([0.3, 0.3, 0.3], size=5000).astype(np.float32)
    rows = [(f"clip{i // 5}", i % 5, float(good), float(bad)) for i, (good, _, bad) in enumerate(draws)]
    found = mine(rows).pairs["complexity"].to_numpy()
    assert 0 < found.min() < 0.2
    assert 0.9 < found.max() <= 1


def test_the_least_good_candidate_is_not_the_loser_when_another_is_likelier_bad():
    (pair,) = mine([("a", 0, 0.1, 0.2), ("a", 1, 0.3, 0.6), ("a", 2, 0.8, 0.1)]).pairs.to_pylist()
    assert (pair["winner"], pair["loser"]) == (2, 1)


def test_each_dropped_clip_is_counted_under_the_first_rule_it_fails():
    rows = [
        ("alone", 0, 0.9, 0.05),
        ("tied", 0, 0.6, 0.1),
        ("tied", 1, 0.6, 0.3),
        ("all tied", 0, 0.3, 0.3),
        ("all tied", 1, 0.3, 0.3),
        ("tied worst", 0, 0.7, 0.2),
        ("tied worst", 1, 0.2, 0.4),
        ("tied worst", 2, 0.3, 0.4),
        ("same", 0, 0.5, 0.45),
        ("same", 1, 0.1, 0.1),
        ("close", 0, 0.40, 0.1),
        ("close", 1, 0.38, 0.3),
        ("far", 0, 0.8, 0.1),
        ("far", 1, 0.1, 0.7),
    ]
    mined = mine(rows, min_margin=0.1)
    assert mined.pairs["clip_id"].to_pylist() == ["far"]
    assert dict(mined.dropped) == {"too_few_candidates": 1, "tie": 3, "same_candidate": 1, "small_margin": 1}


def test_candidates_without_any_score_take_no_part():
    (pair,) = mine(CLIP, scored=[True, False, True, True]).pairs.to_pylist()
    assert (pair["winner"], pair["loser"]) == (3, 2)
    assert mine(CLIP, scored=[False, False, True, False]).dropped["too_few_candidates"] == 1
    assert mine(CLIP, scored=[False] * 4).dropped["too_few_candidates"] == 1


def test_mining_agrees_with_a_loop_over_clips_in_any_order_of_rows():
    random = np.random.default_rng(0)
    draws = random.dirichlet([1, 1, 1], size=2000).astype(np.float32)
    rows = [(f"clip{i % 400}", i // 400, float(good), float(bad)) for i, (good, _, bad) in enumerate(draws)]
    expected = {}
    for clip in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == clip]
        winner, loser = max(own, key=lambda row: row[2]), max(own, key=lambda row: row[3])
        if winner != loser and winner[2] - loser[2] >= 0.2:
            gaps = (winner[2] - loser[2], loser[3] - winner[3])
            expected[clip] = (winner[1], loser[1], pytest.approx(sum(gaps) / 2, abs=1e-6))
    for order in (range(2000), random.permutation(2000)):
        pairs = mine([rows[i] for i in order], min_margin=0.2).pairs.to_pylist()
        assert {pair["clip_id"]: (pair["winner"], pair["loser"], pair["complexity"]) for pair in pairs} == expected


def ratings(*rows):
    return pa.Table.from_pylist(
        [dict(zip(("clip_id", "sample", "rating", "rater", "source"), row, strict=True)) for row in rows],
        schema=RATINGS.arrow,
    )


def test_a_rated_clip_gives_good_against_bad_with_complexity_zero():
    table = ratings(
        ("a", 0, "medium", "r", "human"), ("a", 1, "bad", "r", "human"), ("a", 2, "good", "r", "human"),
        ("b", 0, "medium", "r", "human"), ("b", 1, "bad", "r", "human"),
        ("c", 0, "good", "r", "human"), ("c", 1, "good", "r", "human"),
    )  # fmt: skip
    mined = rated_pairs(table, {})
    found = [
        (row["clip_id"], row["winner"], row["loser"], row["complexity"], row["source"])
        for row in mined.pairs.to_pylist()
    ]
    assert found == [("a", 2, 1, 0.0, "human"), ("b", 0, 1, 0.0, "human")]
    assert mined.dropped == {"no_rating_gap": 1}
    assert mined.pairs["winner_good"].null_count == 2


def test_several_raters_are_averaged_and_one_simulated_rating_marks_the_pair():
    table = ratings(
        ("a", 0, "good", "r", "human"), ("a", 0, "bad", "s", "human"),
        ("a", 1, "good", "r", "human"), ("a", 1, "medium", "s", "simulated"),
        ("a", 2, "medium", "r", "human"), ("a", 2, "bad", "s", "human"),
    )  # fmt: skip
    (pair,) = rated_pairs(table, {}).pairs.to_pylist()
    assert (pair["winner"], pair["loser"], pair["source"]) == (1, 2, "simulated")


def test_audioscore_chooses_among_equally_rated_candidates():
    table = ratings(
        *(("a", sample, label, "r", "human") for sample, label in enumerate(["good", "good", "bad", "bad"]))
    )
    probabilities = {
        ("a", 0): np.array([0.5, 0.2, 0.3]), ("a", 1): np.array([0.8, 0.1, 0.1]),
        ("a", 2): np.array([0.1, 0.3, 0.6]), ("a", 3): np.array([0.1, 0.1, 0.8]),
    }  # fmt: skip
    (plain,) = rated_pairs(table, {}).pairs.to_pylist()
    (chosen,) = rated_pairs(table, probabilities).pairs.to_pylist()
    assert (plain["winner"], plain["loser"]) == (0, 2)
    assert (chosen["winner"], chosen["loser"]) == (1, 3)
    assert chosen["loser_bad"] == pytest.approx(0.8)


def pairs_of(complexities, source="audioscore"):
    pairs = mine(
        [
            row
            for i, _ in enumerate(complexities)
            for row in ((f"{source}{i}", 0, 0.9, 0.05), (f"{source}{i}", 1, 0.1, 0.8))
        ]
    ).pairs
    pairs = pairs.set_column(
        pairs.schema.get_field_index("complexity"),
        pairs.schema.field("complexity"),
        [pa.array(complexities, pa.float32())],
    )
    return pairs.set_column(
        pairs.schema.get_field_index("source"), pairs.schema.field("source"), [pa.repeat(source, len(complexities))]
    )


def test_pairs_above_the_threshold_are_easy_and_rated_pairs_are_always_hard():
    pairs = pa.concat_tables([pairs_of([0.6, 0.7, 0.71]), pairs_of([0.0], source="human")])
    threshold = split_threshold(pairs, Threshold(value=np.float32(0.7).item()))
    assert with_phases(pairs, threshold)["phase"].to_pylist() == ["hard", "hard", "easy", "hard"]
    assert with_phases(pairs, -1.0)["phase"].to_pylist() == ["easy", "easy", "easy", "hard"]


def test_a_quantile_threshold_leaves_that_share_of_all_pairs_hard_rated_ones_counted():
    """The paper's proportions in small: 960 mined pairs, 40 rated ones, 81% easy."""
    mined = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 960)).tolist()
    pairs = pa.concat_tables([pairs_of(mined), pairs_of([0.0] * 40, source="human")])
    phases = with_phases(pairs, split_threshold(pairs, Threshold(quantile=0.19)))["phase"].to_pylist()
    assert (phases.count("easy"), phases.count("hard")) == (810, 190)
    assert phases[960:] == ["hard"] * 40


def test_a_quantile_below_the_share_of_rated_pairs_is_refused_with_that_share():
    pairs = pa.concat_tables([pairs_of([0.5, 0.6, 0.7]), pairs_of([0.0], source="simulated")])
    with pytest.raises(UserError, match=r"0\.250 of them come from ratings") as caught:
        split_threshold(pairs, Threshold(quantile=0.19))
    assert caught.value.where == "mine.threshold.quantile"
    at_the_limit = with_phases(pairs, split_threshold(pairs, Threshold(quantile=0.25)))["phase"].to_pylist()
    assert at_the_limit.count("hard") >= 1
