"""Commands about runs on a cluster: compile, submit, watch, read logs, cancel, schedule."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from v2a_dpo.cli.console import err, show, table
from v2a_dpo.cli.kubeflow.options import (
    DEFAULT_NAMESPACE,
    Compilation,
    DryRun,
    PipelineName,
    Request,
    RunId,
    Server,
)
from v2a_dpo.cli.kubeflow.schedules import schedule
from v2a_dpo.cli.options import Call, register
from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import PipelineClient
    from v2a_dpo.cluster.run_status import RunStatus

CLUSTER = "Cluster"
SUCCEEDED = "SUCCEEDED"

pipeline = typer.Typer(no_args_is_help=True, help="Runs on Kubeflow Pipelines: compile, submit, watch and cancel them.")
Wait = Annotated[bool, typer.Option("--wait", help="Follow the run; status 1 if it does not succeed.")]
PollInterval = Annotated[float, typer.Option("--poll", min=0.01, help="Polling interval in seconds with --wait.")]


def compile_(
    compilation: Compilation,
    name: PipelineName = "v2a-dpo",
    output: Annotated[str | None, typer.Option(metavar="FILE", help="The YAML file [default: PIPELINE.yaml].")] = None,
    manifests: Annotated[
        bool, typer.Option("--manifests", help="Kubernetes resources for GitOps instead of a file to upload.")
    ] = False,
    namespace: Annotated[
        str, typer.Option(envvar="KFP_NAMESPACE", help="Namespace of the resources with --manifests.")
    ] = DEFAULT_NAMESPACE,
) -> object:
    """Write a pipeline's YAML: to upload, or as Pipeline and PipelineVersion resources.

    Examples:

    v2a-dpo pipeline compile v2a-dpo --preset gpu --output build/v2a-dpo.yaml

    v2a-dpo pipeline compile evaluate --manifests --namespace v2a-dpo --output build/evaluate-manifests.yaml
    """
    return compilation.write(name, output or f"{name}.yaml", manifests=manifests, namespace=namespace)


def submit(
    call: Call,
    compilation: Compilation,
    request: Request,
    server: Server,
    name: PipelineName = "v2a-dpo",
    run_name: Annotated[
        str | None, typer.Option("--name", help="The run's name [default: pipeline, profile and time].")
    ] = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    poll_s: PollInterval = 10.0,
) -> None:
    """Upload a pipeline if it changed, and start a run of it.

    Examples:

    v2a-dpo pipeline submit v2a-dpo --params configs/mmaudio-large-44k.yaml --root s3://bucket/loops/one --dry-run

    v2a-dpo pipeline submit v2a-dpo --preset cpu --root s3://bucket/loops/tiny --set align.beta=200 --wait
    """
    submission = request.submission(compilation.compiled(name), call.params, run_name=run_name)
    if dry_run:
        typer.echo(submission.description(), nl=False)
        return
    client = server.connect()
    version = client.version(submission)
    err.print(f"{submission.version}: {'uploaded' if version.is_new else 'already there'}")
    run_id = client.start(submission, version)
    typer.echo(run_id)
    err.print(f"{submission.run_name}: {client.page_of(run_id)}")
    if wait:
        _follow(client, run_id, poll_s=poll_s)
    else:
        err.print(f"Follow it: v2a-dpo pipeline status {run_id} --wait")


def status(
    server: Server,
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id [default: list the latest runs].")
    ] = None,
    wait: Wait = False,
    poll_s: PollInterval = 10.0,
) -> None:
    """Show a run's tasks with their states and durations, or the latest runs.

    Example: v2a-dpo pipeline status 2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21
    """
    client = server.connect()
    if run_id is None:
        rows = [
            (run.run_id, run.name, run.state, f"{run.created.astimezone(UTC):%Y-%m-%d %H:%M}" if run.created else "")
            for run in client.runs()
        ]
        show(table("Latest runs", ["Run", "Name", "State", "Created (UTC)"], rows))
    elif wait:
        _follow(client, run_id, poll_s=poll_s)
    else:
        _show_status(client.status(run_id))


def logs(
    run_id: RunId,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="A task [default: those that failed].")] = None,
    tail: Annotated[int, typer.Option(min=0, help="Number of last lines per pod; 0 for all.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing the lines of one running pod.")] = False,
    namespace: Annotated[
        str, typer.Option(envvar="KFP_NAMESPACE", help="Namespace of the run's pods.")
    ] = DEFAULT_NAMESPACE,
) -> None:
    """Print the logs of a task's pods; needs a kubeconfig with the right to read pods and their logs.

    Kubeflow's API gives no logs, so they come from Kubernetes while the pods exist.

    Example: v2a-dpo pipeline logs 2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21 generate --tail 20
    """
    from v2a_dpo.cluster.pod_logs import PodLogs

    reader = PodLogs(namespace)
    pods = reader.pods(run_id)
    selected = [pod for pod in pods if (pod.task == task if task else pod.phase == "Failed")]
    if not selected:
        tasks = ", ".join(sorted({pod.task for pod in pods})) or "none"
        raise UserError(
            f"{task} has no pod." if task else "No failed task has a pod.",
            where=f"run {run_id}, namespace {namespace}",
            remedy=f"Tasks with pods: {tasks}. The log of a deleted pod is only in the cluster's log store, if any.",
        )
    if follow and len(selected) > 1:
        what = f"{len(selected)} pods cannot be followed at once."
        raise UserError(what, where="--follow", remedy="Leave --follow out, or use kubectl logs.")
    for pod in selected:
        err.print(f"== {pod.title}")
        for line in reader.lines(pod, tail=tail or None, follow=follow):
            typer.echo(line)


def cancel(run_id: RunId, server: Server) -> str:
    """Stop a run; finished artifacts are kept, and a new run with the same root continues from them.

    Example: v2a-dpo pipeline cancel 2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21
    """
    run = server.connect().cancel(run_id)
    return f"{run.name}: {run.state}"


def _follow(client: PipelineClient, run_id: str, *, poll_s: float) -> None:
    """Waits for a run and exits with status 1 unless it succeeds; Ctrl-C stops the waiting, not the run."""
    from v2a_dpo.cli.kubeflow.progress import follow

    try:
        run = follow(client, run_id, poll_s=poll_s)
    except KeyboardInterrupt:
        err.print(f"The run continues. To stop it: v2a-dpo pipeline cancel {run_id}")
        raise typer.Exit(130) from None
    _show_status(run)
    if run.state != SUCCEEDED:
        raise typer.Exit(1)


def _show_status(run: RunStatus) -> None:
    """Prints a run's tasks, its error, and how to read the logs of the tasks that failed."""
    from v2a_dpo.cli.kubeflow.progress import task_table

    show(task_table(run))
    if run.error:
        err.print(run.error)
    for task in run.failed_tasks:
        err.print(f"Log of {task}: v2a-dpo pipeline logs {run.run_id} {task}")


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(pipeline, None, compile_, submit, status, logs, cancel)
    pipeline.add_typer(schedule, name="schedule")
    app.add_typer(pipeline, name="pipeline", rich_help_panel=CLUSTER)
