"""The paper's Table 2 (section 3.2): beta and the curriculum threshold, one factor at a time, on top of a finished
loop."""

from typing import Any

from kfp import dsl

from components.candidates import generate, score
from components.evaluation import evaluate
from components.preference import mine
from components.run import take_loop
from components.sweep_cells import collect_sweep, plan_sweep, sweep_cell
from pipelines.parts.alignment import alignment
from pipelines.parts.values import Part, layout_of, value
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
        with placement.summarized(root, name="table-2"):
            loop = placement.task(take_loop, loop_root=loop_root, generator=generator, scorers=scorers).outputs
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
        loop = layout_of(loop_root)
        cells = placement.task(plan_sweep, params=params, betas=betas, thresholds=thresholds, grid=grid).output
        with dsl.ParallelFor(cells, parallelism=placement.preset.parallelism, name="cells") as cell:
            layout = layout_of(f"{root}/{cell}")
            settings = placement.task(sweep_cell, params=params, cell=cell).output
            mined = placement.task(
                mine, params=settings, scores=loop.scores("preference"), audioscore=loop.audioscore,
                output=layout.pairs, ratings=loop.ratings, rated_scores=loop.scores("annotation"),
            )  # fmt: skip
            aligned = alignment(
                placement, params=settings, pairs=value(mined),
                annotation_candidates=loop.candidates("annotation"),
                annotation_conditions=loop.conditions("annotation"),
                preference_candidates=loop.candidates("preference"),
                preference_conditions=loop.conditions("preference"),
                generator=generator, output=layout.aligned, log=layout.alignment,
            )  # fmt: skip
            sampled = placement.task(
                generate, params=settings, conditions=loop.conditions("test"), generator=value(aligned),
                output=layout.candidates("test-aligned"), candidates=1,
            )  # fmt: skip
            scored = placement.task(
                score, params=settings, clips=loop.clips("test"), candidates=value(sampled), scorers=scorers,
                output=layout.scores("test-aligned"),
            )  # fmt: skip
            evaluated = placement.task(
                evaluate, params=settings, clips=loop.clips("test"), scorers=scorers,
                base_candidates=loop.candidates("test-base"), base_scores=loop.scores("test-base"),
                aligned_candidates=value(sampled), aligned_scores=value(scored),
                output=layout.evaluation, events=events,
            )  # fmt: skip
        collected = placement.task(
            collect_sweep, params=params, cells=cells, pairs=dsl.Collected(value(mined)),
            evaluations=dsl.Collected(value(evaluated)), output=root,
        )  # fmt: skip
        return value(collected)

    return part
