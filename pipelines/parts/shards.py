"""Data sets made shard by shard, by many pods at the same time: clips and conditions, candidates, scores.

Each is a pipeline of three kinds of tasks: a plan divides the shards, workers make theirs, and the call that completes
the data set finds the workers' shards, makes what is missing, and writes the manifest. It has the role of the workers,
because it may have to do the work of one.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.candidates import generate, score
from components.data import prepare
from components.run import plan_shards
from pipelines.parts.values import Part, layout_of, value
from pipelines.placement import Placement


class Prepared(NamedTuple):
    """The prefixes of the clips and conditions of a split."""

    clips: str
    conditions: str


def prepared_shards(placement: Placement) -> Part:
    """The part that makes the clips and the conditions of a split."""

    @dsl.pipeline(name="prepare-shards", description="Clips and conditions of a split, shard by shard")
    def part(params: dict, root: str, split: str, videos: str, generator: str) -> Prepared:
        layout, folder = layout_of(root), f"{videos}/{split}"
        clips = {"params": params, "videos": folder, "captions": f"{folder}/captions.csv", "split": split}
        whole = _in_parallel(
            placement,
            placement.task(plan_shards, **clips),
            prepare,
            result="conditions",
            generator=generator,
            clips=layout.clips(str(split)),
            conditions=layout.conditions(str(split)),
            **clips,
        )
        return Prepared(clips=whole.outputs["clips"], conditions=whole.outputs["conditions"])

    return part


def candidate_shards(placement: Placement) -> Part:
    """The part that makes the candidates called `name` for all clips of `conditions`; `count` 0: the number in
    `params`."""

    @dsl.pipeline(name="generate-shards", description="Candidates for all clips, shard by shard")
    def part(params: dict, root: str, name: str, conditions: str, generator: str, count: int = 0) -> str:
        plan = placement.task(plan_shards, params=params, data=conditions)
        output = layout_of(root).candidates(str(name))
        whole = _in_parallel(
            placement, plan, generate, params=params, conditions=conditions, generator=generator, output=output,
            candidates=count,
        )  # fmt: skip
        return value(whole)

    return part


def score_shards(placement: Placement) -> Part:
    """The part that makes the scores called `name` of all `candidates`."""

    @dsl.pipeline(name="score-shards", description="Scores of all candidates, shard by shard")
    def part(params: dict, root: str, name: str, clips: str, candidates: str, scorers: str) -> str:
        plan = placement.task(plan_shards, params=params, data=candidates)
        output = layout_of(root).scores(str(name))
        whole = _in_parallel(
            placement, plan, score, params=params, clips=clips, candidates=candidates, scorers=scorers, output=output
        )
        return value(whole)

    return part


def _in_parallel(
    placement: Placement, plan: dsl.PipelineTask, component: Any, *, result: str = "Output", **arguments: Any
) -> dsl.PipelineTask:
    """The task that completes a data set after workers made the shards of the `plan`.

    All are tasks of `component` with these `arguments`; `result` is the component's output to wait for.
    """
    with dsl.ParallelFor(plan.output, parallelism=placement.preset.parallelism, name="workers") as shards:
        worker = placement.task(component, shards=shards, **arguments)
    return placement.task(component, finished=dsl.Collected(worker.outputs[result]), **arguments)
