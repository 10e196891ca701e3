"""Data sets made shard by shard, by many pods at the same time: clips and conditions, candidates, scores.

Each is a pipeline of three kinds of tasks: a plan deals the shards out, workers make theirs, and the call that
completes the data set finds the workers' shards, makes what is missing, and writes the manifest. It runs where the
workers do, because it may have to do the work of one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.candidates import generate, score
from components.data import prepare
from components.run import plan_shards
from pipelines.parts.values import Part, layout, value
from pipelines.placement import Placement


class Prepared(NamedTuple):
    """Where the clips of a split and their conditions lie."""

    clips: str
    conditions: str


def prepared_shards(placement: Placement) -> Part:
    """The part that makes the clips and the conditions of a split."""

    @dsl.pipeline(name="prepare-shards", description="Clips and conditions of a split, shard by shard")
    def part(params: dict, root: str, split: str, videos: str, generator: str) -> Prepared:
        at, folder = layout(root), f"{videos}/{split}"
        captions = f"{folder}/captions.csv"
        plan = plan_shards(params=params, videos=folder, captions=captions, split=split)

        def make(**part: Any) -> dsl.PipelineTask:
            task = prepare(
                params=params,
                videos=folder,
                captions=captions,
                split=split,
                generator=generator,
                clips=at.clips(str(split)),
                conditions=at.conditions(str(split)),
                **part,
            )
            return placement.place(task, "preparation")

        whole = _in_parallel(make, placement.place(plan, "control").output, "conditions", placement)
        return Prepared(clips=whole.outputs["clips"], conditions=whole.outputs["conditions"])

    return part


def candidate_shards(placement: Placement) -> Part:
    """The part that makes the candidates called `name` for all clips of `conditions`; `count` 0: as many as `params`
    say."""

    @dsl.pipeline(name="generate-shards", description="Candidates for all clips, shard by shard")
    def part(params: dict, root: str, name: str, conditions: str, generator: str, count: int = 0) -> str:
        plan = plan_shards(params=params, data=conditions)

        def make(**part: Any) -> dsl.PipelineTask:
            task = generate(
                params=params,
                conditions=conditions,
                generator=generator,
                output=layout(root).candidates(str(name)),
                candidates=count,
                **part,
            )
            return placement.place(task, "generation")

        return value(_in_parallel(make, placement.place(plan, "control").output, "Output", placement))

    return part


def score_shards(placement: Placement) -> Part:
    """The part that makes the scores called `name` of all `candidates`."""

    @dsl.pipeline(name="score-shards", description="Scores of all candidates, shard by shard")
    def part(params: dict, root: str, name: str, clips: str, candidates: str, scorers: str) -> str:
        plan = plan_shards(params=params, data=candidates)

        def make(**part: Any) -> dsl.PipelineTask:
            task = score(
                params=params,
                clips=clips,
                candidates=candidates,
                scorers=scorers,
                output=layout(root).scores(str(name)),
                **part,
            )
            return placement.place(task, "scoring")

        return value(_in_parallel(make, placement.place(plan, "control").output, "Output", placement))

    return part


def _in_parallel(
    make: Callable[..., dsl.PipelineTask], chunks: Any, output: str, placement: Placement
) -> dsl.PipelineTask:
    """The task that completes a data set after workers made its `chunks`; `output` is what a worker returns.

    `make(shards=...)` is a worker, `make(finished=...)` the call for all shards.
    """
    with dsl.ParallelFor(chunks, parallelism=placement.preset.parallelism, name="workers") as chunk:
        worker = make(shards=chunk)
    return make(finished=dsl.Collected(worker.outputs[output]))
