"""What a pipeline run takes as it is, instead of making it.

No annotation is postponed here: KFP reads the fields of `Sources` and `ClipSet` as types.
"""

from typing import NamedTuple

from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.artifacts.location import exists
from v2a_dpo.errors import UserError


class Sources(NamedTuple):
    """Where videos, the events in them (empty: unknown), base generator and scorers lie."""

    videos: str
    events: str
    generator: str
    scorers: str


def take_existing(location: str) -> str:
    """The `location`, after a look whether there is anything; raises UserError when there is not."""
    if not exists(location):
        raise UserError("Not found.", where=location, remedy="Start the run at an earlier step.")
    print(f"Taken as it is: {location}", flush=True)
    return location


class ClipSet(NamedTuple):
    """Where the clips of a split, their conditions and their candidates lie."""

    clips: str
    conditions: str
    candidates: str


def take_set(*, root: str, split: str) -> ClipSet:
    """The prefixes of a split; raises UserError when one is gone. Nobody makes candidates of the test split ahead."""
    at = Layout(root)
    candidates = "" if split == "test" else take_existing(at.candidates(split))
    return ClipSet(take_existing(at.clips(split)), take_existing(at.conditions(split)), candidates)


def take_models(*, videos: str, generator: str, scorers: str) -> Sources:
    """The sources of a run on real videos; raises UserError when a model is not there."""
    return Sources(videos, "", take_existing(generator), take_existing(scorers))


def take_loop(*, loop_root: str, generator: str, scorers: str) -> Sources:
    """The sources of the finished loop under `loop_root`; models that are not named are the tiny profile's own.

    Raises UserError when something is not there.
    """
    at = Layout(loop_root)
    for needed in (at.ratings, at.audioscore, at.scores("test-base")):
        take_existing(needed)
    events = at.events if exists(at.events) else ""
    return Sources(
        at.world if events else "", events, take_existing(generator or at.base), take_existing(scorers or at.scorers)
    )
