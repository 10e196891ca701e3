"""The models of a loop that is finished, for what builds on it."""

from typing import NamedTuple

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def take_loop(loop_root: str, generator: str = "", scorers: str = "") -> NamedTuple(  # type: ignore[valid-type]
    "Sources", [("videos", str), ("truth", str), ("generator", str), ("scorers", str)]
):
    """Returns the loop's videos, truth, base generator and scorers; fails if it is not finished."""
    from v2a_dpo.orchestration.existing import take_loop as take

    return take(loop_root=loop_root, generator=generator, scorers=scorers)
