"""Commands about the outcome: evaluation, report, and the whole loop in one go."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.console import ProgressBars
from v2a_dpo.cli.options import PARAMS_FILE, KeepArtifacts, Overrides, ParamsFile, folder, read_params

OUTCOME = "Outcome"


def evaluate(
    clips: Annotated[str, folder("The held-out clips")],
    scorers: Annotated[str, folder("The frozen scorers")],
    base_candidates: Annotated[str, folder("The base model's audio")],
    base_scores: Annotated[str, folder("Its scores")],
    aligned_candidates: Annotated[str, folder("The aligned model's audio")],
    aligned_scores: Annotated[str, folder("Its scores")],
    output: Annotated[str, folder("Where metrics, tables and curves go")],
    truth: Annotated[
        str | None, typer.Option(metavar="FILE", help="truth.json: lets the SIMULATED rater of the tiny profile judge.")
    ] = None,
    curve_base: Annotated[str | None, typer.Option(metavar="FOLDER", help="Base model for the guidance curve.")] = None,
    curve_aligned: Annotated[str | None, typer.Option(metavar="FOLDER", help="Aligned model for it.")] = None,
    curve_conditions: Annotated[str | None, typer.Option(metavar="FOLDER", help="Conditions for it.")] = None,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Compare base and aligned on held-out clips: every metric with its interval and paired difference.

    Example: v2a-dpo evaluate --clips artifacts/clips/test --scorers artifacts/pretrained/scorers
    --base-candidates artifacts/candidates/test-base --base-scores artifacts/scores/test-base
    --aligned-candidates artifacts/candidates/test-aligned --aligned-scores artifacts/scores/test-aligned --output artifacts/evaluation
    """
    from v2a_dpo.stages.evaluate import evaluate as stage
    from v2a_dpo.stages.guidance_curve import Models

    curve = None
    if curve_base and curve_aligned and curve_conditions:
        curve = Models(base=curve_base, aligned=curve_aligned, conditions=curve_conditions)
    with ProgressBars() as progress:
        table = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            clips=clips,
            scorers=scorers,
            base=(base_candidates, base_scores),
            aligned=(aligned_candidates, aligned_scores),
            output=output,
            truth=truth,
            curve=curve,
            progress=progress,
        )
    typer.echo(table)


def report(
    root: Annotated[str, typer.Option(metavar="FOLDER", help="The folder of the loop's artifacts.")] = "artifacts",
    output: Annotated[str, typer.Option(metavar="FILE", help="The HTML file.")] = "artifacts/report/index.html",
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Write the self-contained HTML report of a finished loop.

    Example: v2a-dpo report --root artifacts --output artifacts/report/index.html
    """
    from v2a_dpo.orchestration.loop import report_of

    with ProgressBars() as progress:
        typer.echo(report_of(read_params(params, overrides), root=root, output=output, progress=progress))


def plots(
    alignment: Annotated[str, folder("Log of the alignment")],
    audioscore: Annotated[str, folder("The preference classifier")],
    evaluation: Annotated[str, folder("The evaluation")],
    output: Annotated[str, folder("Where the tables go")],
) -> None:
    """Write the loop's curves as CSV tables, which `dvc plots show` draws.

    Example: v2a-dpo plots --alignment artifacts/alignment --audioscore artifacts/audioscore
    --evaluation artifacts/evaluation --output artifacts/plots
    """
    from v2a_dpo.stages.plots import plots as stage

    typer.echo(stage(alignment=alignment, audioscore=audioscore, evaluation=evaluation, output=output))


def run(
    root: Annotated[str, typer.Option(metavar="FOLDER", help="Where all artifacts go.")] = "artifacts",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which stages would run, and on what.")] = False,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Run the whole loop of the tiny profile in one process; finished shards are kept when it runs again.

    Example: v2a-dpo run --params configs/tiny.yaml --root artifacts
    """
    from v2a_dpo.orchestration.loop import plan
    from v2a_dpo.orchestration.loop import run as run_loop

    settings = read_params(params, overrides, keep_artifacts=keep_artifacts)
    if dry_run:
        for step in plan(settings, root=root):
            typer.echo(f"{step.name}: {' '.join(step.outputs)}")
        return
    with ProgressBars() as progress:
        typer.echo(run_loop(settings, root=root, progress=progress))


def results(
    root: Annotated[str, typer.Option(metavar="FOLDER", help="The folder of the loop's artifacts.")] = "artifacts",
) -> None:
    """Print the result table of a finished loop and where its report lies.

    Example: v2a-dpo results --root artifacts
    """
    from v2a_dpo.orchestration.loop import results_of

    typer.echo(results_of(root))


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    for command in (evaluate, report, plots, run, results):
        app.command(rich_help_panel=OUTCOME)(command)
