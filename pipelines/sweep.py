"""The paper's Table 2: beta and the curriculum threshold over a grid, on top of a finished loop."""

from typing import Any

from kfp import dsl

from components.align import align
from components.collect_sweep import collect_sweep
from components.evaluate import evaluate
from components.generate import generate
from components.mine import mine
from components.plan_sweep import plan_sweep
from components.score import score
from components.summarize_run import summarize_run
from components.sweep_cell import sweep_cell
from components.take_loop import take_loop
from pipelines.parts import layout, value
from pipelines.placement import Placement


def sweep(placement: Placement) -> Any:
    """Mines, aligns and evaluates once for every pair of a beta and a threshold, and collects one table.

    Takes `params`, `root` (where results go), `loop_root` (a finished run of `v2a-dpo`, whose candidates, scores and
    AudioScore all cells share), `betas` and `thresholds`: complexity scores, or quantiles where `params` names one.
    `generator` and `scorers` are the models of that run, unless it was of the tiny profile.
    """

    @dsl.pipeline(name="sweep", description=sweep.__doc__)
    def pipeline(
        params: dict,
        root: str,
        loop_root: str,
        betas: list[float] = [200.0, 600.0, 1000.0],  # noqa: B006
        thresholds: list[float] = [0.5, 0.7, 0.9],  # noqa: B006
        generator: str = "",
        scorers: str = "",
    ) -> None:
        done = layout(loop_root)
        ended = placement.notifying(placement.place(summarize_run(root=root), "control"))
        with dsl.ExitHandler(ended, name="grid"):
            loop = placement.place(
                take_loop(loop_root=loop_root, generator=generator, scorers=scorers), "control"
            ).outputs
            planned = placement.place(plan_sweep(params=params, betas=betas, thresholds=thresholds), "control")
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
                aligned = placement.place(
                    align(
                        params=settings,
                        pairs=value(mined),
                        annotation_candidates=done.candidates("annotation"),
                        annotation_conditions=done.conditions("annotation"),
                        preference_candidates=done.candidates("preference"),
                        preference_conditions=done.conditions("preference"),
                        generator=loop["generator"],
                        output=at.aligned,
                        log=at.alignment,
                    ),
                    "alignment",
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
                        scorers=loop["scorers"],
                        output=at.scores("test-aligned"),
                    ),
                    "scoring",
                )
                evaluated = placement.place(
                    evaluate(
                        params=settings,
                        clips=done.clips("test"),
                        scorers=loop["scorers"],
                        base_candidates=done.candidates("test-base"),
                        base_scores=done.scores("test-base"),
                        aligned_candidates=value(made),
                        aligned_scores=value(scored),
                        output=at.evaluation,
                        truth=loop["truth"],
                    ),
                    "evaluation",
                )
            placement.place(
                collect_sweep(params=params, cells=cells, evaluations=dsl.Collected(value(evaluated)), output=root),
                "control",
            )

    return pipeline
