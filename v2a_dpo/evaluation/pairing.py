"""Which clips are evaluated: those that every source has, paired once by clip id, with counts of what was dropped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from v2a_dpo.errors import UserError


@dataclass(frozen=True)
class Pairing:
    """The paired clips in the order of the clips table, and for each source how many expected clips it lacks."""

    clip_ids: list[str]
    expected: int
    missing: dict[str, int]


def pair_clips(expected: Sequence[str], sources: Mapping[str, Collection[str]], *, min_share: float) -> Pairing:
    """The clips of `expected` that all `sources` (name -> clip ids) have.

    Raises UserError when fewer than two clips or less than `min_share` of the expected ones are left, naming what each
    source lacks. No id is changed on the way: published code cleans names by their length and silently loses some.
    """
    held = {name: frozenset(clip_ids) for name, clip_ids in sources.items()}
    paired = [clip_id for clip_id in expected if all(clip_id in clip_ids for clip_ids in held.values())]
    missing = {name: sum(clip_id not in clip_ids for clip_id in expected) for name, clip_ids in held.items()}
    if len(paired) < 2 or len(paired) < min_share * len(expected):
        lacks = ", ".join(f"{name} {count}" for name, count in missing.items())
        raise UserError(
            f"Only {len(paired)} of {len(expected)} clips can be evaluated; missing are: {lacks}.",
            where="evaluation's pairing by clip_id",
            remedy="See the folders' _quarantine.parquet for the reasons, or lower evaluate.min_paired.",
        )
    return Pairing(paired, len(expected), missing)


def failed_clips(tried: Sequence[str], audible: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """System -> the clips of `tried` on which it made no usable sound, although another one of `audible` did."""
    heard = {name: frozenset(clip_ids) for name, clip_ids in audible.items()}
    anybody = frozenset[str]().union(*heard.values())
    return {
        name: [clip_id for clip_id in tried if clip_id in anybody and clip_id not in clip_ids]
        for name, clip_ids in heard.items()
    }
