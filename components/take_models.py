"""Stands where the tiny world would be made, in a run that brings its own videos and models."""

from typing import NamedTuple

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def take_models(videos: str, generator: str, scorers: str) -> NamedTuple(  # type: ignore[valid-type]
    "Sources", [("videos", str), ("truth", str), ("generator", str), ("scorers", str)]
):
    """Returns the given prefixes; nobody knows the truth about real videos, so that one is empty."""
    from v2a_dpo.orchestration.existing import take_models as take

    return take(videos=videos, generator=generator, scorers=scorers)
