"""Videos to clips and the generator's conditions."""

from typing import NamedTuple

from kfp.dsl import Dataset, Metrics, Output

from components.definition import component


@component("preparation")
def prepare(
    params: dict,
    videos: str,
    captions: str,
    split: str,
    generator: str,
    clips: str,
    conditions: str,
    table: Output[Dataset],
    numbers: Output[Metrics],
    shards: str = "",
    finished: list[str] = [],  # noqa: B006
) -> NamedTuple("Prepared", [("clips", str), ("conditions", str)]):  # type: ignore[valid-type]
    """Makes the given shards, or what is still missing and the manifests; returns the prefixes.

    `finished` is what the workers returned: it only lets the call that completes the data set wait for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.prepare import prepare as stage

    run_stage(stage, locals(), data=(clips, table), numbers=("", numbers))
    return clips, conditions
