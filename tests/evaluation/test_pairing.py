import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.pairing import pair_clips

EXPECTED = ["ABCDEFGHIJKLMNOPQRST", "c", "a", "b"]


def test_pairs_keep_the_clips_order_and_count_what_each_source_lacks():
    sources = {"base": ["a", "b", "c", "stranger"], "aligned": ["b", "a", *EXPECTED[:1]], "real": EXPECTED}
    pairing = pair_clips(EXPECTED, sources, min_share=0.5)
    assert pairing.clip_ids == ["a", "b"]
    assert pairing.missing == {"base": 1, "aligned": 1, "real": 0}
    assert pairing.expected == 4


def test_ids_of_any_length_are_left_as_they_are():
    pairing = pair_clips(EXPECTED, {"base": EXPECTED}, min_share=1.0)
    assert pairing.clip_ids[0] == "ABCDEFGHIJKLMNOPQRST"


def test_too_few_pairs_raise_with_the_counts():
    with pytest.raises(UserError, match=r"Only 2 of 4 .* base 2, aligned 0"):
        pair_clips(EXPECTED, {"base": ["a", "b"], "aligned": EXPECTED}, min_share=0.75)


def test_a_single_pair_is_never_enough():
    with pytest.raises(UserError, match="Only 1 of 1"):
        pair_clips(["a"], {"base": ["a"]}, min_share=0.0)
