"""The splits of the paper (2.1, 2.2 and 3.1): clips for annotation, for mining pairs, and for testing.

The paper gives the sizes, 2K and 50K, not how the clips were drawn, and no stratification. Here a clip's
part and rank are functions of the seed and its YouTube id alone, so that neither a missing video nor another size moves
a clip from one split to the other, and no video is in two splits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from v2a_dpo.data.vggsound.lists import ListedClip, youtube_id
from v2a_dpo.randomness import row_seed

_RANGE = 2**63


@dataclass(frozen=True)
class Exclusion:
    """A clip excluded from its split, and the reason."""

    clip_id: str
    label: str
    reason: str


@dataclass(frozen=True)
class Candidates:
    """The clips of each split in the order in which they are taken, whether or not their videos exist."""

    annotation: list[ListedClip]
    preference: list[ListedClip]
    test: list[ListedClip]
    excluded: list[Exclusion]


def arrange(
    clips: Sequence[ListedClip],
    *,
    seed: int,
    annotation_share: float,
    test_list: Mapping[str, str] | None,
    trained_on: Mapping[str, Collection[str]],
    held_out: Mapping[str, Collection[str]],
) -> Candidates:
    """The splits of VGGSound's `clips`.

    - test: the clips of `test_list` (clip id -> caption) in its order, or the official test split without one. A clip
      that is in a list of `trained_on` (name -> ids), on which a generator or scorer was trained, is excluded.
    - annotation and preference: the official training clips, in the order of a hash; `annotation_share` of the videos
      belong to the first. Excluded are those whose video is in the test split, or in a list of `held_out` (name ->
      ids).

    Ids are clip ids, or YouTube ids that stand for all clips of a video.
    """
    labels = {clip.clip_id: clip.label for clip in clips}
    listed = (
        [clip for clip in clips if clip.official_split == "test"]
        if test_list is None
        else [ListedClip(clip_id, label or labels.get(clip_id, ""), "test") for clip_id, label in test_list.items()]
    )
    excluded: list[Exclusion] = []
    test: list[ListedClip] = []
    for clip in listed:
        leaks = [name for name, ids in trained_on.items() if clip.clip_id in ids or clip.youtube_id in ids]
        if leaks:
            excluded.append(Exclusion(clip.clip_id, clip.label, f"test clip that {leaks[0]} was trained on"))
        else:
            test.append(clip)
    # By video: another second of a test video is the same scene and often the same sound.
    closed = {clip.youtube_id: "its video is in the test split" for clip in listed}
    for name, ids in held_out.items():
        closed |= {youtube_id(item): f"its video is held out by {name}" for item in ids}
    pools: tuple[list[ListedClip], list[ListedClip]] = ([], [])
    for clip in clips:
        if clip.official_split != "train":
            continue
        if clip.youtube_id in closed:
            excluded.append(Exclusion(clip.clip_id, clip.label, closed[clip.youtube_id]))
        else:
            pools[_hash(seed, "split", clip) >= annotation_share * _RANGE].append(clip)
    for pool in pools:
        pool.sort(key=lambda clip: (_hash(seed, "rank", clip), clip.clip_id))
    return Candidates(*pools, test, excluded)


def _hash(seed: int, purpose: str, clip: ListedClip) -> int:
    """A number below 2**63 that depends on the clip's video."""
    return row_seed(seed, f"vggsound {purpose}", clip.youtube_id)


def take(pool: Sequence[ListedClip], count: int, exists: Callable[[str], bool]) -> list[ListedClip]:
    """The first `count` clips of `pool`; a missing one is replaced in its place by the next existing one of the
    rest.

    So one more or fewer video changes single lines and leaves the others in their places. Fewer than `count` when
    no more exist.
    """
    spare = (clip for clip in pool[count:] if exists(clip.clip_id))
    taken = (clip if exists(clip.clip_id) else next(spare, None) for clip in pool[:count])
    return [clip for clip in taken if clip is not None]
