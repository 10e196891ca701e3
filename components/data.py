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
) -> NamedTuple("Prepared", [("clips", str), ("conditions", str)]):
    """Makes only `shards`, or what is missing and the manifests; returns the prefixes.

    `finished` are the results of the workers: the call that completes the data set waits for them.
    """
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.prepare import prepare as stage

    run_stage(stage, locals(), data=(clips, table), numbers=("", numbers))
    return clips, conditions
