"""A pipeline run itself: checks, existing artifacts in place of a step, shards per task, and the summary at its end."""

from typing import NamedTuple

from kfp.dsl import Model, Output, PipelineTaskFinalStatus

from components.definition import component


@component("control")
def check_run(
    params: dict,
    root: str,
    start_at: str = "videos",
    data_root: str = "",
    videos: str = "",
    generator: str = "",
    scorers: str = "",
    ratings_csv: str = "",
    to_be_rated: bool = False,
) -> str:
    """Checks a run's inputs before any GPU pod starts; returns the prefix of its clips, conditions and candidates."""
    from v2a_dpo.orchestration.checks import check_run as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, locals())


@component("control")
def take_models(videos: str, generator: str, scorers: str) -> NamedTuple(
    "Sources", [("videos", str), ("events", str), ("generator", str), ("scorers", str)]
):
    """Returns the prefixes; `events` is empty for real videos."""
    from v2a_dpo.orchestration.existing import take_models as stage

    return stage(videos=videos, generator=generator, scorers=scorers)


@component("control")
def take_set(root: str, split: str) -> NamedTuple(
    "ClipSet", [("clips", str), ("conditions", str), ("candidates", str)]
):
    """Returns the prefixes of a split under `root`; fails if one is missing. The test split has no candidates yet."""
    from v2a_dpo.orchestration.existing import take_set as stage

    return stage(root=root, split=split)


@component("control")
def take_existing(location: str) -> str:
    """Returns the prefix of an artifact of an earlier run; fails if it is missing."""
    from v2a_dpo.orchestration.existing import take_existing as stage

    return stage(location)


@component("control")
def take_loop(loop_root: str, generator: str = "", scorers: str = "") -> NamedTuple(
    "Sources", [("videos", str), ("events", str), ("generator", str), ("scorers", str)]
):
    """Returns the loop's videos, events, base generator and scorers; fails if it is not finished."""
    from v2a_dpo.orchestration.existing import take_loop as stage

    return stage(loop_root=loop_root, generator=generator, scorers=scorers)


@component("tracking")
def fetch_model(params: dict, model: str, output: str, fetched: Output[Model]) -> str:
    """Returns the model's folder: `model` itself, or `output` for an address such as `models:/v2a-dpo@champion`."""
    from v2a_dpo.orchestration.existing import fetch_model as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, locals(), model=("", fetched))


@component("control")
def plan_shards(params: dict, data: str = "", videos: str = "", captions: str = "", split: str = "test") -> list[str]:
    """Returns a text such as `0-31` for each worker; a text, because every loop of every KFP version can carry one."""
    from v2a_dpo.orchestration.shards import plan_shards as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(stage, locals())


@component("control")
def summarize_run(root: str, status: PipelineTaskFinalStatus) -> None:
    """Writes `run-summary.json` under the root and notifies the webhook, if the cluster has one."""
    from v2a_dpo.orchestration.summary import summarize_run as stage

    error = status.error_message or ""
    print(stage(root, run=status.pipeline_job_resource_name, state=status.state, error=error))
