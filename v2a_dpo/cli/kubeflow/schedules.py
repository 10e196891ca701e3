"""Commands about schedules: recurring runs on Kubeflow, such as evaluations."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.console import err, show, table
from v2a_dpo.cli.kubeflow.options import Compilation, DryRun, Request, Server
from v2a_dpo.cli.options import Call, register

schedule = typer.Typer(no_args_is_help=True, help="Recurring runs, such as the evaluation of the champion every week.")

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


def create(
    call: Call,
    name: ScheduleName,
    compilation: Compilation,
    request: Request,
    server: Server,
    cron: Annotated[
        str | None, typer.Option(metavar="FIELDS", help='Minute, hour, day, month, weekday in UTC: "0 3 * * MON".')
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="INTERVAL", help="Interval instead of --cron: 30m, 24h or 7d.")
    ] = None,
    pipeline: Annotated[str, typer.Option(metavar="PIPELINE", help="The pipeline to run.")] = "evaluate",
    dry_run: DryRun = False,
) -> None:
    """Run a pipeline regularly, by default the evaluation; one run at a time, missed ones are skipped.

    Example: v2a-dpo pipeline schedule create weekly --cron "0 3 * * MON" --root s3://bucket/evaluations/weekly
    --input clips=s3://bucket/loops/one/clips/test --input conditions=s3://bucket/loops/one/conditions/test
    --input scorers=s3://bucket/models/scorers --input base=s3://bucket/models/mmaudio_large_44k
    --input model=models:/v2a-dpo@champion
    """
    from v2a_dpo.cluster.schedules import Schedule

    timing = Schedule.by(name, cron=cron, every=every)
    submission = request.submission(compilation.compiled(pipeline), call.params, run_name=name)
    if dry_run:
        typer.echo(f"schedule: {timing.recurrence}\n{submission.description()}", nl=False)
        return
    client = server.connect()
    version = client.version(submission)
    typer.echo(client.schedule(submission, version, timing))
    err.print(f"{name}: {submission.version}, {timing.recurrence}")


def list_(server: Server) -> None:
    """List all schedules.

    Example: v2a-dpo pipeline schedule list
    """
    rows = [(each.name, each.recurrence, each.state, each.schedule_id) for each in server.connect().schedules()]
    show(table("Schedules", ["Name", "Runs", "State", "Id"], rows))


def delete(name: ScheduleName, server: Server) -> str:
    """Delete a schedule; its runs are kept.

    Example: v2a-dpo pipeline schedule delete weekly
    """
    server.connect().delete_schedule(name)
    return f"{name}: deleted"


register(schedule, None, create, list_, delete)
