"""Commands about the outcome: evaluation, report and curves."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.options import AT, ROOT, Call, Root, file, folder, register

EVALUATE = "Evaluate"


def evaluate(
    call: Call,
    clips: Annotated[str, folder("The test clips")] = AT.clips("test"),
    scorers: Annotated[str, folder("The frozen scorers")] = AT.scorers,
    base_candidates: Annotated[str, folder("The base model's audio")] = AT.candidates("test-base"),
    base_scores: Annotated[str, folder("Its scores")] = AT.scores("test-base"),
    aligned_candidates: Annotated[str, folder("The aligned model's audio")] = AT.candidates("test-aligned"),
    aligned_scores: Annotated[str, folder("Its scores")] = AT.scores("test-aligned"),
    output: Annotated[str, folder("Output for metrics, tables and curves")] = AT.evaluation,
    events: Annotated[
        str | None,
        file(
            "events.json, for the quality by the SIMULATED rater "
            f"[default: {AT.events} in the tiny profile, otherwise none]"
        ),
    ] = None,
    curve_base: Annotated[str | None, folder("Base model for the guidance curve")] = AT.base,
    curve_aligned: Annotated[str | None, folder("Aligned model for it")] = AT.aligned,
    curve_conditions: Annotated[str | None, folder("Conditions for it")] = AT.conditions("test"),
) -> object:
    """Compare base and aligned on the test clips: every metric with its interval and paired difference.

    Example: v2a-dpo evaluate
    """
    from v2a_dpo.stages.evaluate import evaluate as stage
    from v2a_dpo.stages.guidance_curve import Models

    if events is None and call.params.generator.family == "tiny":
        events = call.at.events
    curve = None
    if curve_base and curve_aligned and curve_conditions:
        curve = Models(base=curve_base, aligned=curve_aligned, conditions=curve_conditions)
    return stage(
        call.params,
        clips=clips,
        scorers=scorers,
        base=(base_candidates, base_scores),
        aligned=(aligned_candidates, aligned_scores),
        output=output,
        events=events,
        curve=curve,
        progress=call.progress,
    )


def report(
    call: Call, root: Root = ROOT, output: Annotated[str, file("The HTML file")] = f"{AT.report}/index.html"
) -> object:
    """Write the self-contained HTML report of a finished loop.

    Example: v2a-dpo report
    """
    from v2a_dpo.orchestration.loop import report_of

    return report_of(call.params, root=root, output=output, progress=call.progress)


def plots(
    alignment: Annotated[str, folder("Log of the alignment")] = AT.alignment,
    audioscore: Annotated[str, folder("The preference classifier")] = AT.audioscore,
    evaluation: Annotated[str, folder("The evaluation")] = AT.evaluation,
    output: Annotated[str, folder("Output for the tables")] = AT.plots,
) -> object:
    """Write the loop's curves as CSV tables, which `dvc plots show` draws.

    Example: v2a-dpo plots
    """
    from v2a_dpo.stages.plots import plots as stage

    return stage(alignment=alignment, audioscore=audioscore, evaluation=evaluation, output=output)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, EVALUATE, evaluate, keep_artifacts=True)
    register(app, EVALUATE, report, plots)
