"""Commands that learn: AudioScore, preference pairs, alignment."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from v2a_dpo.cli.console import ProgressBars
from v2a_dpo.cli.options import PARAMS_FILE, KeepArtifacts, Overrides, ParamsFile, folder, read_params

LEARNING = "Learning"


def train_audioscore(
    scores: Annotated[str, folder("Scores of the rated candidates")],
    ratings: Annotated[str, folder("Their ratings")],
    output: Annotated[str, folder("Where the classifier goes")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Train AudioScore, the Good / Medium / Bad classifier over five scores.

    Example: v2a-dpo train-audioscore --scores artifacts/scores/annotation --ratings artifacts/ratings --output artifacts/audioscore
    """
    from v2a_dpo.stages.train_audioscore import train_audioscore as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides), scores=scores, ratings=ratings, output=output, progress=progress
        )
    typer.echo(summary)


def mine(
    scores: Annotated[str, folder("Scores of the candidates to pair")],
    audioscore: Annotated[str, folder("The trained AudioScore")],
    output: Annotated[str, folder("Where the pairs go")],
    ratings: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Ratings that become pairs of complexity 0.")
    ] = None,
    rated_scores: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Scores of the rated candidates: decide among equal ratings.")
    ] = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Mine best-against-worst pairs by P(Good) and P(Bad), with complexity and curriculum phase.

    Example: v2a-dpo mine --scores artifacts/scores/preference --audioscore artifacts/audioscore --output artifacts/pairs
    """
    from v2a_dpo.stages.mine import mine as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            scores=scores,
            audioscore=audioscore,
            output=output,
            ratings=ratings,
            rated_scores=rated_scores,
            progress=progress,
        )
    typer.echo(summary)


def align(
    pairs: Annotated[str, folder("The preference pairs")],
    candidates: Annotated[list[str], typer.Option(metavar="FOLDER", help="Candidates of the pairs. Repeatable.")],
    conditions: Annotated[list[str], typer.Option(metavar="FOLDER", help="Conditions of their clips. Repeatable.")],
    generator: Annotated[str, folder("The base generator")],
    output: Annotated[str, folder("Where the aligned generator goes")],
    log: Annotated[str, folder("Where log, summary and checkpoints go")],
    live: Annotated[bool, typer.Option(help="Send the curves to MLflow while it runs.")] = True,
    start_anew: Annotated[
        bool, typer.Option("--start-anew", help="Move a run that differs aside and begin anew, instead of refusing.")
    ] = False,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Align the generator by curriculum Flow-DPO; resumes exactly after a stop. Nothing of an earlier run is deleted.

    Runs on several GPUs, too: torchrun --nproc-per-node 8 -m v2a_dpo.cli align ... (or accelerate launch -m).

    Example: v2a-dpo align --pairs artifacts/pairs --candidates artifacts/candidates/preference --conditions artifacts/conditions/preference
    --generator artifacts/pretrained/generator --output artifacts/aligned --log artifacts/alignment
    """
    from v2a_dpo.stages.align import align as plain
    from v2a_dpo.stages.align_live import align_live

    stage = align_live if live else plain
    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            pairs=pairs,
            candidates=candidates,
            conditions=conditions,
            generator=generator,
            output=output,
            log=log,
            start_anew=start_anew,
            progress=progress,
        )
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        typer.echo(summary)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    for command in (train_audioscore, mine, align):
        app.command(rich_help_panel=LEARNING)(command)
