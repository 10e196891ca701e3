"""Stands where a split would be prepared, in a run that starts from existing candidates or pairs."""

from typing import NamedTuple

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def take_set(root: str, split: str) -> NamedTuple(  # type: ignore[valid-type]
    "ClipSet", [("clips", str), ("conditions", str), ("candidates", str)]
):
    """Returns the prefixes of a split under `root`; fails if one is gone. The test split has no candidates of its own."""
    from v2a_dpo.orchestration.existing import take_set as take

    return take(root=root, split=split)
