"""Commands about releases: gates, registration, promotion, rollback, history, lineage."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.console import ProgressBars
from v2a_dpo.cli.options import PARAMS_FILE, Overrides, ParamsFile, folder, read_params

RELEASE = "Release"
#: Exit status of a command that did its work, with the gates' no as the outcome.
REFUSED = 3

VERSION_HELP = "The version's number, or an alias such as candidate or champion."


def gate(
    evaluation: Annotated[str, folder("The evaluation of base and aligned model")],
    output: Annotated[str, typer.Option(metavar="FILE", help="Where the decision goes.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 when the gates do not hold.")] = False,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Decide by the rules in `gates` whether the aligned model may be released, against its base.

    Example: v2a-dpo gate --evaluation artifacts/evaluation --output artifacts/gate.json
    """
    from v2a_dpo.stages.gate import gate as stage

    decision = stage(read_params(params, overrides), evaluation=evaluation, output=output)
    typer.echo(decision)
    if strict and not decision.passed:
        raise typer.Exit(REFUSED)


def register(
    base: Annotated[str, folder("The base model")],
    aligned: Annotated[str, folder("The aligned model")],
    evaluation: Annotated[str, folder("Their evaluation")],
    report_file: Annotated[str, typer.Option("--report", metavar="FILE", help="The HTML report.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="Where the record of what was registered goes.")],
    alignment: Annotated[str | None, typer.Option(metavar="FOLDER", help="Log of the alignment.")] = None,
    audioscore: Annotated[str | None, typer.Option(metavar="FOLDER", help="The preference classifier.")] = None,
    pairs: Annotated[str | None, typer.Option(metavar="FOLDER", help="The preference pairs.")] = None,
    training_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER", help="A data set behind the training, recorded by fingerprint. May be repeated."
        ),
    ] = None,
    evaluation_data: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="The same for the evaluation. May be repeated."),
    ] = None,
    ancestors: Annotated[
        list[str] | None,
        typer.Option(
            "--ancestor", metavar="FOLDER", help="A data set or model further back, for the lineage. Repeatable."
        ),
    ] = None,
    gate_file: Annotated[
        str | None, typer.Option("--gate", metavar="FILE", help="The gates' decision, which the version then carries.")
    ] = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Log the loop and register base and aligned model in MLflow (SQLite, or the server of MLFLOW_TRACKING_URI).

    Example: v2a-dpo register --base artifacts/pretrained/generator --aligned artifacts/aligned
    --evaluation artifacts/evaluation --report artifacts/report/index.html --output artifacts/registration.json
    """
    from v2a_dpo.stages.register import register as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides),
            base=base,
            aligned=aligned,
            evaluation=evaluation,
            report=report_file,
            output=output,
            alignment=alignment,
            audioscore=audioscore,
            pairs=pairs,
            training_data=training_data or [],
            evaluation_data=evaluation_data or [],
            ancestors=ancestors or [],
            gate=gate_file,
            progress=progress,
        )
    typer.echo(summary)


def promote(
    version: Annotated[str, typer.Argument(help=VERSION_HELP)] = "candidate",
    override: Annotated[
        bool, typer.Option("--override", help="Promote whatever the gates say; needs --reason, and is recorded.")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept in the history.")] = None,
    to_registry: Annotated[
        str | None,
        typer.Option(metavar="[URI/]NAME", help="Copy the version to this registered model, and promote it there."),
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="FILE", help="Where the outcome goes as JSON.")] = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Make a version champion, if the gates hold against the present champion on the same clips.

    Exit status 3 when they do not. Example: v2a-dpo promote candidate
    """
    from v2a_dpo.stages.promote import promote as stage

    with ProgressBars() as progress:
        outcome = stage(
            read_params(params, overrides),
            version=version,
            override=override,
            reason=reason,
            to_registry=to_registry,
            output=output,
            progress=progress,
        )
    typer.echo(outcome)
    if not outcome.promoted:
        raise typer.Exit(REFUSED)


def rollback(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Make the previous champion champion again.

    Example: v2a-dpo rollback --reason "clicks at the start of every clip"
    """
    from v2a_dpo.registry.champion import rollback as stage

    entry = stage(read_params(params, overrides), reason=reason)
    typer.echo(f"Version {entry.version} is champion again, instead of version {entry.previous}: {entry.reason}")


def history(params: ParamsFile = PARAMS_FILE, overrides: Overrides = None) -> None:
    """Print who was champion when and why, with the numbers that decided and every override.

    Example: v2a-dpo history
    """
    from v2a_dpo.registry.champion import history as stage

    typer.echo(stage(read_params(params, overrides)))


def lineage(
    version: Annotated[str, typer.Argument(help=VERSION_HELP)] = "champion",
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare with what is on the disk, shard by shard; exit status 3 on a difference."
        ),
    ] = False,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Print what a version was made from: pairs, ratings, scores, models, down to the shards' checksums and the code.

    Example: v2a-dpo lineage champion
    """
    from v2a_dpo.registry.lineage import differences
    from v2a_dpo.stages.show_lineage import lineage_of

    title, found = lineage_of(read_params(params, overrides), version)
    typer.echo(found.tree(title))
    if check:
        different = differences(found)
        typer.echo("\n".join(different) or "Everything is on the disk as it was recorded.")
        if different:
            raise typer.Exit(REFUSED)


tracking = typer.Typer(help="Training curves in MLflow.", no_args_is_help=True)


@tracking.command()
def sync(
    log: Annotated[
        str, typer.Option(metavar="FOLDER", help="The log folder of an alignment, local or s3://.")
    ] = "artifacts/alignment",
) -> None:
    """Send the records of an alignment that MLflow does not have, after a time without a server.

    Example: v2a-dpo tracking sync --log artifacts/alignment
    """
    from v2a_dpo.alignment.run.curves import sync as stage

    typer.echo(stage(log))


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.add_typer(tracking, name="tracking", rich_help_panel=RELEASE)
    for command in (gate, register, promote, rollback, history, lineage):
        app.command(rich_help_panel=RELEASE)(command)
