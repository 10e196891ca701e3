"""Commands about runs on a cluster: compile, submit, watch, read logs, cancel, schedule."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from v2a_dpo.cli.console import err
from v2a_dpo.cli.kubeflow.options import (
    DEFAULT_NAMESPACE,
    DEFAULT_PRESET,
    DEFAULT_SERVICE_ACCOUNT,
    CertificateFile,
    ExistingVersion,
    ImageRegistry,
    ImageTag,
    Inputs,
    Namespace,
    PipelineName,
    Preset,
    RootPrefix,
    RunId,
    ServerHost,
    ServiceAccount,
    TokenFile,
    connect,
)
from v2a_dpo.cli.kubeflow.schedules import schedule
from v2a_dpo.cli.kubeflow.submission import compile_to, compiled_pipeline, submission_of
from v2a_dpo.cli.options import PARAMS_FILE, Overrides, ParamsFile
from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import PipelineClient
    from v2a_dpo.cluster.run_status import RunStatus

CLUSTER = "Cluster"
SUCCEEDED = "SUCCEEDED"

pipeline = typer.Typer(no_args_is_help=True, help="Runs on Kubeflow Pipelines: compile, submit, watch and cancel them.")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the submission; contacts no server.")]
Experiment = Annotated[str | None, typer.Option(help="Experiment in Kubeflow [default: registry.experiment].")]


@pipeline.command("compile")
def compile_command(
    name: PipelineName = "v2a-dpo",
    output: Annotated[str | None, typer.Option(metavar="FILE", help="The YAML file [default: PIPELINE.yaml].")] = None,
    preset: Preset = DEFAULT_PRESET,
    manifests: Annotated[
        bool, typer.Option("--manifests", help="Kubernetes resources for GitOps instead of a file to upload.")
    ] = False,
    namespace: Annotated[
        str, typer.Option(envvar="KFP_NAMESPACE", help="Namespace of the resources with --manifests.")
    ] = DEFAULT_NAMESPACE,
    image_registry: ImageRegistry = None,
    image_tag: ImageTag = None,
) -> None:
    """Write a pipeline's YAML: to upload, or as Pipeline and PipelineVersion resources.

    Examples:

    v2a-dpo pipeline compile v2a-dpo --preset gpu --output build/v2a-dpo.yaml

    v2a-dpo pipeline compile evaluate --manifests --namespace v2a-dpo --output build/evaluate-manifests.yaml
    """
    path = compile_to(
        output or f"{name}.yaml",
        name,
        preset=preset,
        image_registry=image_registry,
        image_tag=image_tag,
        manifests=manifests,
        namespace=namespace,
    )
    typer.echo(path)


@pipeline.command()
def submit(
    name: PipelineName = "v2a-dpo",
    root: RootPrefix = None,
    inputs: Inputs = None,
    preset: Preset = DEFAULT_PRESET,
    run_name: Annotated[
        str | None, typer.Option("--name", help="The run's name [default: pipeline, profile and time].")
    ] = None,
    experiment: Experiment = None,
    service_account: ServiceAccount = DEFAULT_SERVICE_ACCOUNT,
    existing_version: ExistingVersion = None,
    image_registry: ImageRegistry = None,
    image_tag: ImageTag = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; status 1 if it does not succeed.")] = False,
    poll_s: Annotated[float, typer.Option("--poll", min=0.01, help="Polling interval in seconds with --wait.")] = 10.0,
    host: ServerHost = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CertificateFile = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Upload a pipeline if it changed, and start a run of it.

    Examples:

    v2a-dpo pipeline submit v2a-dpo --params configs/mmaudio-large-44k.yaml --root s3://bucket/loops/one --dry-run

    v2a-dpo pipeline submit v2a-dpo --preset cpu --root s3://bucket/loops/tiny --set align.beta=200 --wait
    """
    submission = submission_of(
        compiled_pipeline(name, preset=preset, image_registry=image_registry, image_tag=image_tag),
        root=root,
        inputs=inputs,
        params=params,
        overrides=overrides,
        experiment=experiment,
        run_name=run_name,
        service_account=service_account,
        existing_version=existing_version,
    )
    if dry_run:
        typer.echo(submission.description(), nl=False)
        return
    client = connect(host, namespace, token_file, ca_file)
    version = client.version(submission)
    err.print(f"{submission.version}: {'uploaded' if version.is_new else 'already there'}")
    run_id = client.start(submission, version)
    typer.echo(run_id)
    err.print(f"{submission.run_name}: {client.page_of(run_id)}")
    if not wait:
        err.print(f"Follow it: v2a-dpo pipeline status {run_id} --wait")
        return
    _follow(client, run_id, poll_s=poll_s)


@pipeline.command()
def status(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id [default: list the latest runs].")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; status 1 if it does not succeed.")] = False,
    poll_s: Annotated[float, typer.Option("--poll", min=0.01, help="Polling interval in seconds with --wait.")] = 10.0,
    host: ServerHost = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CertificateFile = None,
) -> None:
    """Show a run's tasks with their states and durations, or the latest runs.

    Example: v2a-dpo pipeline status 2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21
    """
    from rich.table import Table

    from v2a_dpo.cli.kubeflow.progress import show, task_table

    client = connect(host, namespace, token_file, ca_file)
    if run_id is None:
        table = Table("Run", "Name", "State", "Created (UTC)", title="Latest runs")
        for run in client.runs():
            created = "" if run.created is None else run.created.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
            table.add_row(run.run_id, run.name, run.state, created)
        show(table)
        return
    if wait:
        _follow(client, run_id, poll_s=poll_s)
        return
    found = client.status(run_id)
    show(task_table(found))
    _explain_failure(found)


@pipeline.command()
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
        raise UserError(
            f"{len(selected)} pods cannot be followed at once.",
            where="--follow",
            remedy="Leave --follow out, or use kubectl logs.",
        )
    for pod in selected:
        err.print(f"== {pod.title}")
        for line in reader.lines(pod, tail=tail or None, follow=follow):
            typer.echo(line)


@pipeline.command()
def cancel(
    run_id: RunId,
    host: ServerHost = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CertificateFile = None,
) -> None:
    """Stop a run; finished artifacts are kept, and a new run with the same root continues from them.

    Example: v2a-dpo pipeline cancel 2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21
    """
    found = connect(host, namespace, token_file, ca_file).cancel(run_id)
    typer.echo(f"{found.name}: {found.state}")


def _follow(client: PipelineClient, run_id: str, *, poll_s: float) -> None:
    """Waits for a run and exits with status 1 unless it succeeds; Ctrl-C stops the waiting, not the run."""
    from v2a_dpo.cli.kubeflow.progress import follow, show, task_table

    try:
        found = follow(client, run_id, poll_s=poll_s)
    except KeyboardInterrupt:
        err.print(f"The run continues. To stop it: v2a-dpo pipeline cancel {run_id}")
        raise typer.Exit(130) from None
    show(task_table(found))
    _explain_failure(found)
    if found.state != SUCCEEDED:
        raise typer.Exit(1)


def _explain_failure(found: RunStatus) -> None:
    if found.error:
        err.print(found.error)
    for task in found.failed_tasks:
        err.print(f"Log of {task}: v2a-dpo pipeline logs {found.run_id} {task}")


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    pipeline.add_typer(schedule, name="schedule")
    app.add_typer(pipeline, name="pipeline", rich_help_panel=CLUSTER)
