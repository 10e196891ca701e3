"""The paper's Table 2 (section 3.2): beta and the curriculum threshold, one factor at a time, on top of a finished
loop."""

from typing import Any

from kfp import dsl

from components.candidates import generate, score
from components.evaluation import evaluate
from components.preference import mine
from components.run import summarize_run, take_loop
from components.sweep_cells import collect_sweep, plan_sweep, sweep_cell
from pipelines.parts.alignment import alignment
from pipelines.parts.values import Part, layout, value
from pipelines.placement import Placement


def sweep(placement: Placement) -> Any:
    """Mines, aligns and evaluates once for every cell of beta and threshold, and collects one table.

    Takes `params`, `root` (where results go), `loop_root` (a finished run of `v2a-dpo`, whose candidates, scores and
    AudioScore all cells share), `betas` and `thresholds`: complexity scores, or quantiles where `params` names one.
    The cells are those of the paper: the beta and threshold of `params`, then the other betas at that threshold, then
    the other thresholds at that beta. With `grid` they are every beta with every threshold.
    `generator` and `scorers` are the models of that run, unless it was of the tiny profile.
    """
    make_cells = _cells(placement)

    @dsl.pipeline(name="sweep", description=sweep.__doc__)
    def pipeline(
        params: dict,
        root: str,
        loop_root: str,
        betas: list[float] = [1000.0, 800.0, 400.0, 200.0],  # noqa: B006
        thresholds: list[float] = [1.0, 0.9, 0.8, 0.6],  # noqa: B006
        grid: bool = False,
        generator: str = "",
        scorers: str = "",
    ) -> None:
        ended = placement.notifying(placement.place(summarize_run(root=root), "control"))
        with dsl.ExitHandler(ended, name="table-2"):
            loop = placement.place(
                take_loop(loop_root=loop_root, generator=generator, scorers=scorers), "control"
            ).outputs  # fmt: skip
            make_cells(
                params=params, root=root, loop_root=loop_root, betas=betas, thresholds=thresholds, grid=grid,
                generator=loop["generator"], scorers=loop["scorers"], events=loop["events"],
            )  # fmt: skip

    return pipeline


def _cells(placement: Placement) -> Part:
    """The part that makes all cells at the same time and puts them into one table."""

    @dsl.pipeline(name="cells", description="Pairs, alignment and evaluation for every cell, and the table")
    def part(
        params: dict,
        root: str,
        loop_root: str,
        betas: list[float],
        thresholds: list[float],
        grid: bool,
        generator: str,
        scorers: str,
        events: str,
    ) -> str:
        done = layout(loop_root)
        planned = placement.place(plan_sweep(params=params, betas=betas, thresholds=thresholds, grid=grid), "control")
        cells = planned.output
        with dsl.ParallelFor(cells, parallelism=placement.preset.parallelism, name="cells") as cell:
            at = layout(f"{root}/{cell}")
            settings = placement.place(sweep_cell(params=params, cell=cell), "control").output
            mined = placement.place(
                mine(
                    params=settings,
                    scores=done.scores("preference"),
                    audioscore=done.audioscore,
                    output=at.pairs,
                    ratings=done.ratings,
                    rated_scores=done.scores("annotation"),
                ),
                "control",
            )
            aligned = alignment(
                placement,
                params=settings,
                pairs=value(mined),
                annotation_candidates=done.candidates("annotation"),
                annotation_conditions=done.conditions("annotation"),
                preference_candidates=done.candidates("preference"),
                preference_conditions=done.conditions("preference"),
                generator=generator,
                output=at.aligned,
                log=at.alignment,
            )
            made = placement.place(
                generate(
                    params=settings,
                    conditions=done.conditions("test"),
                    generator=value(aligned),
                    output=at.candidates("test-aligned"),
                    candidates=1,
                ),
                "generation",
            )
            scored = placement.place(
                score(
                    params=settings,
                    clips=done.clips("test"),
                    candidates=value(made),
                    scorers=scorers,
                    output=at.scores("test-aligned"),
                ),
                "scoring",
            )
            evaluated = placement.place(
                evaluate(
                    params=settings,
                    clips=done.clips("test"),
                    scorers=scorers,
                    base_candidates=done.candidates("test-base"),
                    base_scores=done.scores("test-base"),
                    aligned_candidates=value(made),
                    aligned_scores=value(scored),
                    output=at.evaluation,
                    events=events,
                ),
                "evaluation",
            )
        collected = placement.place(
            collect_sweep(
                params=params,
                cells=cells,
                pairs=dsl.Collected(value(mined)),
                evaluations=dsl.Collected(value(evaluated)),
                output=root,
            ),
            "control",
        )
        return value(collected)

    return part
