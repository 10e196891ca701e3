"""Commands about schedules: recurring runs on Kubeflow, such as evaluations."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.console import err
from v2a_dpo.cli.kubeflow.options import (
    DEFAULT_PRESET,
    DEFAULT_SERVICE_ACCOUNT,
    CertificateFile,
    ExistingVersion,
    ImageRegistry,
    ImageTag,
    Inputs,
    Namespace,
    Preset,
    RootPrefix,
    ServerHost,
    ServiceAccount,
    TokenFile,
    connect,
)
from v2a_dpo.cli.kubeflow.submission import compiled_pipeline, submission_of
from v2a_dpo.cli.options import PARAMS_FILE, Overrides, ParamsFile

schedule = typer.Typer(no_args_is_help=True, help="Recurring runs, such as the evaluation of the champion every week.")

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@schedule.command("create")
def create_schedule(
    name: ScheduleName,
    cron: Annotated[
        str | None, typer.Option(metavar="FIELDS", help='Minute, hour, day, month, weekday in UTC: "0 3 * * MON".')
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="INTERVAL", help="Interval instead of --cron: 30m, 24h or 7d.")
    ] = None,
    pipeline_name: Annotated[
        str, typer.Option("--pipeline", metavar="PIPELINE", help="The pipeline to run.")
    ] = "evaluate",
    root: RootPrefix = None,
    inputs: Inputs = None,
    preset: Preset = DEFAULT_PRESET,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment in Kubeflow [default: registry.experiment].")
    ] = None,
    service_account: ServiceAccount = DEFAULT_SERVICE_ACCOUNT,
    existing_version: ExistingVersion = None,
    image_registry: ImageRegistry = None,
    image_tag: ImageTag = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be scheduled.")] = False,
    host: ServerHost = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CertificateFile = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Run a pipeline regularly, by default the evaluation; one run at a time, missed ones are skipped.

    Example: v2a-dpo pipeline schedule create weekly --cron "0 3 * * MON" --root s3://bucket/evaluations/weekly
    --input clips=s3://bucket/loops/one/clips/test --input conditions=s3://bucket/loops/one/conditions/test
    --input scorers=s3://bucket/models/scorers --input base=s3://bucket/models/mmaudio_large_44k
    --input model=models:/v2a-dpo@champion
    """
    from v2a_dpo.cluster.schedules import Schedule

    timing = Schedule.by(name, cron=cron, every=every)
    submission = submission_of(
        compiled_pipeline(pipeline_name, preset=preset, image_registry=image_registry, image_tag=image_tag),
        root=root,
        inputs=inputs,
        params=params,
        overrides=overrides,
        experiment=experiment,
        run_name=name,
        service_account=service_account,
        existing_version=existing_version,
    )
    if dry_run:
        typer.echo(f"schedule: {timing.recurrence}\n{submission.description()}", nl=False)
        return
    client = connect(host, namespace, token_file, ca_file)
    version = client.version(submission)
    typer.echo(client.schedule(submission, version, timing))
    err.print(f"{name}: {submission.version}, {timing.recurrence}")


@schedule.command("list")
def list_schedules(
    host: ServerHost = None, namespace: Namespace = None, token_file: TokenFile = None, ca_file: CertificateFile = None
) -> None:
    """List all schedules.

    Example: v2a-dpo pipeline schedule list
    """
    from rich.table import Table

    from v2a_dpo.cli.kubeflow.progress import show

    table = Table("Name", "Runs", "State", "Id", title="Schedules")
    for each in connect(host, namespace, token_file, ca_file).schedules():
        table.add_row(each.name, each.recurrence, each.state, each.schedule_id)
    show(table)


@schedule.command("delete")
def delete_schedule(
    name: ScheduleName,
    host: ServerHost = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CertificateFile = None,
) -> None:
    """Delete a schedule; its runs are kept.

    Example: v2a-dpo pipeline schedule delete weekly
    """
    connect(host, namespace, token_file, ca_file).delete_schedule(name)
    typer.echo(f"{name}: deleted")
