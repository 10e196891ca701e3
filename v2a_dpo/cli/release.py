"""Commands about releases: gates, registration, promotion, rollback, history, lineage."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.options import AT, Call, Stage, file, folder
from v2a_dpo.cli.options import register as add_commands

RELEASE = "Release"
#: Exit status of a command whose outcome is a refusal.
REFUSED = 3

VERSION_HELP = "The version's number, or an alias such as candidate or champion."

_TRAINING_DATA = [AT.ratings, AT.candidates("preference"), AT.candidates("annotation")]
_EVALUATION_DATA = [AT.clips("test")]


def gate(
    call: Call,
    evaluation: Annotated[str, folder("The evaluation of base and aligned model")] = AT.evaluation,
    output: Annotated[str, file("Output for the decision")] = AT.decision,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 when the gates do not hold.")] = False,
) -> None:
    """Decide by the rules in `gates` whether the aligned model may be released, against its base.

    Example: v2a-dpo gate --strict
    """
    from v2a_dpo.stages.gate import gate as stage

    decision = stage(call.params, evaluation=evaluation, output=output, progress=call.progress)
    typer.echo(decision)
    if strict and not decision.passed:
        raise typer.Exit(REFUSED)


def register(
    base: Annotated[str, folder("The base model")] = AT.base,
    aligned: Annotated[str, folder("The aligned model")] = AT.aligned,
    evaluation: Annotated[str, folder("Their evaluation")] = AT.evaluation,
    report: Annotated[str, file("The HTML report")] = AT.report,
    output: Annotated[str, file("Output for the record of the registration")] = AT.registration,
    guidance: Annotated[str | None, folder("The guidance curve")] = AT.guidance,
    alignment: Annotated[str | None, folder("Log of the alignment")] = AT.alignment,
    audioscore: Annotated[str | None, folder("The preference classifier")] = AT.audioscore,
    pairs: Annotated[str | None, folder("The preference pairs")] = AT.pairs,
    training_data: Annotated[
        list[str] | None, folder("Data set of the training, recorded by fingerprint; repeatable")
    ] = _TRAINING_DATA,
    evaluation_data: Annotated[
        list[str] | None, folder("Data set of the evaluation, recorded by fingerprint; repeatable")
    ] = _EVALUATION_DATA,
    ancestors: Annotated[
        list[str] | None, folder("Earlier data set or model of the lineage; repeatable", "--ancestor")
    ] = AT.ancestors,
    scorers: Annotated[str | None, folder("The frozen scorers, for the lineage")] = AT.scorers,
    gate: Annotated[str | None, file("The gates' decision, recorded in the version")] = AT.decision,
) -> Stage:
    """Log the loop and register base and aligned model in MLflow (SQLite, or the server of MLFLOW_TRACKING_URI).

    Example: v2a-dpo register
    """
    from v2a_dpo.stages.register import register as stage

    return stage


def promote(
    call: Call,
    version: Annotated[str, typer.Argument(help=VERSION_HELP)] = "candidate",
    override: Annotated[
        bool, typer.Option("--override", help="Promote even if the gates do not hold; needs --reason, and is recorded.")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept in the history.")] = None,
    to_registry: Annotated[
        str | None,
        typer.Option(metavar="[URI/]NAME", help="Copy the version to this registered model, and promote it there."),
    ] = None,
    output: Annotated[str | None, file("Output for the outcome as JSON")] = None,
) -> None:
    """Make a version champion, if the gates hold against the present champion on the same clips.

    Exit status 3 when they do not. Example: v2a-dpo promote candidate
    """
    from v2a_dpo.stages.promote import promote as stage

    outcome = stage(
        call.params,
        version=version,
        override=override,
        reason=reason,
        to_registry=to_registry,
        output=output,
        progress=call.progress,
    )
    typer.echo(outcome)
    if not outcome.promoted:
        raise typer.Exit(REFUSED)


def rollback(
    call: Call, reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")]
) -> None:
    """Roll back to the previous champion.

    Example: v2a-dpo rollback --reason "clicks at the start of every clip"
    """
    from v2a_dpo.registry.promotion import rollback as stage

    entry = stage(call.params, reason=reason)
    typer.echo(f"Version {entry.version} is champion again, instead of version {entry.previous}: {entry.reason}")


def history(call: Call) -> object:
    """Print all promotions: version, time, reason, the deciding numbers and every override.

    Example: v2a-dpo history
    """
    from v2a_dpo.registry.promotion import history as stage

    return stage(call.params)


def lineage(
    call: Call,
    version: Annotated[str, typer.Argument(help=VERSION_HELP)] = "champion",
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with the files on disk, shard by shard; exit status 3 on a difference."),
    ] = False,
) -> None:
    """Print the inputs of a version: pairs, ratings, scores, models, down to the shards' checksums and the code.

    Example: v2a-dpo lineage champion
    """
    from v2a_dpo.registry.evidence import lineage_of
    from v2a_dpo.registry.lineage import differences

    title, ancestry = lineage_of(call.params, version)
    typer.echo(ancestry.tree(title))
    if check:
        changes = differences(ancestry)
        typer.echo("\n".join(changes) or "Everything on disk is as recorded.")
        if changes:
            raise typer.Exit(REFUSED)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    add_commands(app, RELEASE, gate, register, promote, rollback, history, lineage)
