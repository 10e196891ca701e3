from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2a_dpo.data.vggsound.lists import ListedClip, read_official_list
from v2a_dpo.data.vggsound.splits import Candidates, arrange, take


def arranged(clips, *, seed=0, share=0.25, test_list=None, trained_on=None, held_out=None) -> Candidates:
    return arrange(
        clips,
        seed=seed,
        annotation_share=share,
        test_list=test_list,
        trained_on=trained_on or {},
        held_out=held_out or {},
    )


@pytest.fixture
def clips(listing: Path) -> list[ListedClip]:
    return read_official_list(str(listing)).clips


def ids(clips) -> list[str]:
    return [clip.clip_id for clip in clips]


def test_no_video_is_in_two_splits_and_no_training_clip_is_lost(clips) -> None:
    found = arranged(clips)
    videos = [{clip.youtube_id for clip in split} for split in (found.annotation, found.preference, found.test)]
    assert not videos[0] & videos[1]
    assert not (videos[0] | videos[1]) & videos[2]
    assert sum(map(len, (found.annotation, found.preference, found.test))) == len(clips)
    assert len(found.annotation) == pytest.approx(225, abs=45)  # three deviations of a quarter of 900


def test_the_order_of_the_list_and_other_lines_do_not_matter(clips) -> None:
    whole, reversed_, half = arranged(clips), arranged(clips[::-1]), arranged(clips[::2])
    assert ids(whole.preference) == ids(reversed_.preference)
    kept = set(ids(clips[::2]))
    assert [clip_id for clip_id in ids(whole.preference) if clip_id in kept] == ids(half.preference)


def test_another_seed_draws_other_clips(clips) -> None:
    assert set(ids(arranged(clips).annotation)) != set(ids(arranged(clips, seed=1).annotation))


def test_a_class_keeps_about_its_share(clips) -> None:
    drawn = arranged(clips).preference[:300]
    for label in {clip.label for clip in clips}:
        assert sum(clip.label == label for clip in drawn) == pytest.approx(100, abs=30)


def test_a_clip_that_a_model_was_trained_on_leaves_the_test_split(clips) -> None:
    test = [clip for clip in clips if clip.official_split == "test"]
    found = arranged(clips, trained_on={"seen.txt": {test[0].clip_id, test[1].youtube_id, clips[0].clip_id}})
    assert ids(found.test) == ids(test[2:])
    assert {(item.clip_id, item.reason) for item in found.excluded} == {
        (clip.clip_id, "test clip that seen.txt was trained on") for clip in test[:2]
    }
    assert clips[0].clip_id in ids([*found.annotation, *found.preference])


def test_every_second_of_a_held_out_or_test_video_leaves_the_training_splits(clips) -> None:
    first, second = clips[0], clips[1]
    found = arranged(
        clips,
        test_list={f"{first.youtube_id}_000005": "rain"},
        held_out={"validation.tsv": {f"{second.youtube_id}_000099"}},
    )
    assert [(clip.clip_id, clip.label) for clip in found.test] == [(f"{first.youtube_id}_000005", "rain")]
    reasons = {item.clip_id: item.reason for item in found.excluded}
    assert reasons[first.clip_id] == "its video is in the test split"
    assert reasons[second.clip_id] == "its video is held out by validation.tsv"
    trained = {clip.youtube_id for clip in [*found.annotation, *found.preference]}
    assert not trained & {first.youtube_id, second.youtube_id}


@settings(max_examples=60, deadline=None)
@given(missing=st.sets(st.integers(0, 39), max_size=40), count=st.integers(1, 45))
def test_a_missing_video_is_replaced_in_its_place(missing: set[int], count: int) -> None:
    pool = [ListedClip(f"video-{n:05d}_000000", "label", "train") for n in range(40)]
    gone = {pool[n].clip_id for n in missing}
    taken = ids(take(pool, count, lambda clip_id: clip_id not in gone))
    there = [clip_id for clip_id in ids(pool) if clip_id not in gone]
    assert set(taken) == set(there[:count])
    if len(there) >= count:
        assert all(taken[n] == pool[n].clip_id for n in range(min(count, 40)) if pool[n].clip_id not in gone)
