"""Deals out the shards of a data set to parallel workers."""

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def plan_shards(
    params: dict, shards_per_task: int, data: str = "", videos: str = "", captions: str = "", split: str = "test"
) -> list[str]:
    """Returns a text such as `0-31` for each worker; a text, because every loop of every KFP version can carry one."""
    from v2a_dpo.orchestration.shards import plan_shards as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(
        stage,
        params,
        {"shards_per_task": shards_per_task, "data": data, "videos": videos, "captions": captions, "split": split},
    )
