"""Which clips of several systems are compared, and what is kept of one system."""

import numpy as np
import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.systems import SystemClips, failed_clips, pair_clips

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


def test_a_clip_that_generation_gave_up_is_a_failure_and_one_that_nobody_heard_is_none():
    tried = ["both", "neither", "only base", "only aligned"]
    audible = {"base": ["both", "only base", "never tried"], "aligned": ["both", "only aligned"]}
    assert failed_clips(tried, audible) == {"base": ["only aligned"], "aligned": ["only base"]}


def test_joining_looks_at_each_list_of_clips_a_fixed_number_of_times():
    class Counted(list):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    clip_ids = [f"clip-{number}" for number in range(200)]
    first = SystemClips(Counted(clip_ids), {"a": np.arange(200.0)})
    second = SystemClips(Counted(clip_ids[::-1]), {"b": np.arange(200.0)})
    joined = first.join(second)
    assert joined.clip_ids == clip_ids
    assert (joined.columns["a"] + joined.columns["b"] == 199).all()
    assert Counted.passes < 10


def test_a_file_of_evaluated_clips_gives_back_what_was_saved_and_nothing_else_is_taken_for_one(tmp_path):
    columns = {"kl_panns": np.array([0.1, np.nan]), "passt_embedding": np.arange(6, dtype=np.float32).reshape(2, 3)}
    SystemClips(["b", "a"], columns).save(tmp_path / "clips.safetensors")
    loaded = SystemClips.load(tmp_path / "clips.safetensors")
    assert loaded.clip_ids == ["b", "a"]
    for name, column in columns.items():
        np.testing.assert_array_equal(loaded.columns[name], column)
        assert loaded.columns[name].dtype == column.dtype
    (tmp_path / "clips.safetensors").write_bytes(b"something else")
    with pytest.raises(UserError, match="no evaluated clips"):
        SystemClips.load(tmp_path / "clips.safetensors")
