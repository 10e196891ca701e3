"""The exit handler: what came of a run, however it ended."""

from kfp.dsl import PipelineTaskFinalStatus

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def summarize_run(root: str, status: PipelineTaskFinalStatus) -> None:
    """Writes `run-summary.json` under the root and notifies the webhook, if the cluster has one."""
    from v2a_dpo.orchestration.summary import summarize_run as stage

    print(
        stage(
            root,
            run=status.pipeline_job_resource_name,
            state=status.state,
            error=status.error_message or "",
        )
    )
