"""Stands where a step is skipped because an earlier run did it."""

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def take_existing(location: str) -> str:
    """Returns the prefix of an artifact of an earlier run; fails if it is gone."""
    from v2a_dpo.orchestration.existing import take_existing as take

    return take(location)
