"""Commands that evaluate: metrics, guidance curve, report, plots."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.options import AT, ROOT, Call, Root, Stage, file, folder, register

EVALUATE = "Evaluate"
Events = Annotated[
    str | None,
    file(
        f"events.json, for the quality by the SIMULATED rater [default: {AT.events} in the tiny profile, "
        "otherwise none]"
    ),
]


def evaluate(
    call: Call,
    clips: Annotated[str, folder("The test clips")] = AT.clips("test"),
    scorers: Annotated[str, folder("The frozen scorers")] = AT.scorers,
    base_candidates: Annotated[str, folder("The base model's audio")] = AT.candidates("test-base"),
    base_scores: Annotated[str, folder("Its scores")] = AT.scores("test-base"),
    aligned_candidates: Annotated[str, folder("The aligned model's audio")] = AT.candidates("test-aligned"),
    aligned_scores: Annotated[str, folder("Its scores")] = AT.scores("test-aligned"),
    output: Annotated[str, folder("Output for metrics and tables")] = AT.evaluation,
    events: Events = None,
) -> object:
    """Compare base and aligned on the test clips: every metric with its interval and paired difference.

    Example: v2a-dpo evaluate
    """
    from v2a_dpo.stages.evaluate import evaluate as stage

    return stage(
        call.params,
        clips=clips,
        scorers=scorers,
        base=(base_candidates, base_scores),
        aligned=(aligned_candidates, aligned_scores),
        output=output,
        events=_events(call, events),
        progress=call.progress,
    )


def guidance(
    call: Call,
    clips: Annotated[str, folder("The test clips")] = AT.clips("test"),
    conditions: Annotated[str, folder("Their conditions")] = AT.conditions("test"),
    scorers: Annotated[str, folder("The frozen scorers")] = AT.scorers,
    base: Annotated[str, folder("The base model")] = AT.base,
    aligned: Annotated[str, folder("The aligned model")] = AT.aligned,
    evaluation: Annotated[str, folder("Their evaluation, for the features of the real audio")] = AT.evaluation,
    output: Annotated[str, folder("Output for the curve")] = AT.guidance,
    events: Events = None,
) -> object:
    """Compare base and aligned at several guidance scales (`evaluate.guidance_curve`).

    Example: v2a-dpo guidance
    """
    from v2a_dpo.stages.guidance import guidance as stage

    return stage(
        call.params,
        clips=clips,
        conditions=conditions,
        scorers=scorers,
        base=base,
        aligned=aligned,
        evaluation=evaluation,
        output=output,
        events=_events(call, events),
        progress=call.progress,
    )


def _events(call: Call, events: str | None) -> str | None:
    """The file `events`, or in the tiny profile that of the world."""
    return call.layout.events if events is None and call.params.generator.family == "tiny" else events


def report(call: Call, root: Root = ROOT, output: Annotated[str, file("The HTML file")] = AT.report) -> object:
    """Write the self-contained HTML report of a finished loop.

    Example: v2a-dpo report
    """
    from v2a_dpo.orchestration.loop import report_of

    return report_of(call.params, root=root, output=output, progress=call.progress)


def plots(
    alignment: Annotated[str, folder("Log of the alignment")] = AT.alignment,
    audioscore: Annotated[str, folder("The preference classifier")] = AT.audioscore,
    guidance: Annotated[str, folder("The guidance curve")] = AT.guidance,
    output: Annotated[str, folder("Output for the tables")] = AT.plots,
) -> Stage:
    """Write the loop's curves as CSV tables, which `dvc plots show` draws.

    Example: v2a-dpo plots
    """
    from v2a_dpo.stages.plots import plots as stage

    return stage


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, EVALUATE, evaluate, guidance, keep_artifacts=True)
    register(app, EVALUATE, report, plots)
