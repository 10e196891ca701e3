"""Videos to clips and the generator's conditions."""

from kfp.dsl import Dataset, Metrics, Output

from components.definition import GENERATION, component


@component(GENERATION)
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
) -> str:
    """Makes the given shards, or what is still missing and the manifests; returns the prefix of the conditions.

    `finished` is what the workers returned: it only lets the call that completes the data set wait for them.
    """
    from v2a_dpo.stages.task import run_stage

    run_stage(
        "prepare",
        params,
        {
            "videos": videos,
            "captions": captions,
            "split": split,
            "generator": generator,
            "clips": clips,
            "conditions": conditions,
            "shards": shards,
        },
        data=(clips, table),
        numbers=("", numbers),
    )
    return conditions
