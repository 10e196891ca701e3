"""What pipelines share: data sets made shard by shard in parallel, and systems sampled and scored on a set of clips.

A part is a pipeline of its own, so that a run's graph shows the paper's steps and hides the shards inside them. Control
flow (loops, conditions) lives in parts alone: KFP 2.17 mixes up the groups of a pipeline that nests both. A prefix is put
together inside the part that uses it, because only a task's own arguments may hold a placeholder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.generate import generate
from components.plan_shards import plan_shards
from components.prepare import prepare
from components.pretrain import pretrain
from components.score import score
from components.take_existing import take_existing
from components.take_models import take_models
from components.world import world
from pipelines.placement import Placement
from v2a_dpo.stages.layout import Layout

#: A pipeline used as a step of another one.
Part = Callable[..., dsl.PipelineTask]


def layout(root: Any) -> Layout:
    """The places under a prefix that is known only when the pipeline runs."""
    return Layout(str(root))


def value(task: dsl.PipelineTask) -> Any:
    """What a task returned, beside its artifacts: for our components, the prefix it filled."""
    return task.outputs["Output"]


def in_parallel(make: Callable[..., dsl.PipelineTask], chunks: Any, *, placement: Placement) -> dsl.PipelineTask:
    """The task that completes a data set after its `chunks` were made by workers at the same time.

    `make(shards=...)` is a worker, `make(finished=...)` the call for all shards: it finds the workers' shards, makes what
    is missing, and writes the manifest.
    """
    with dsl.ParallelFor(chunks, parallelism=placement.preset.parallelism) as chunk:
        worker = make(shards=chunk)
    return make(finished=dsl.Collected(value(worker)))


class Sources(NamedTuple):
    """Where a run's videos, the truth about them, its base generator and its scorers lie."""

    videos: str
    truth: str
    generator: str
    scorers: str


def sources(placement: Placement) -> Part:
    """The part that makes the tiny profile's videos and models, or takes those that the run was given."""

    @dsl.pipeline(name="sources", description="The tiny world and its models, or the given videos and models")
    def part(params: dict, root: str, videos: str, generator: str, scorers: str) -> Sources:
        at = layout(root)
        with dsl.If(videos == "", name="no-videos-given"):
            made = placement.place(world(params=params, output=at.world), "control")
            trained = placement.place(pretrain(params=params, output=at.pretrained), "control")
        with dsl.Else(name="videos-given"):
            given = placement.place(take_models(videos=videos, generator=generator, scorers=scorers), "control")
        return Sources(
            videos=dsl.OneOf(made.outputs["videos"], given.outputs["videos"]),
            truth=dsl.OneOf(made.outputs["truth"], given.outputs["truth"]),
            generator=dsl.OneOf(trained.outputs["generator"], given.outputs["generator"]),
            scorers=dsl.OneOf(trained.outputs["scorers"], given.outputs["scorers"]),
        )

    return part


def conditions_of(
    placement: Placement, *, params: Any, root: Any, split: Any, videos: Any, generator: Any, shards_per_task: Any
) -> dsl.PipelineTask:
    """The task that completes the clips and the conditions of a split."""
    at, folder = layout(root), f"{videos}/{split}"
    captions = f"{folder}/captions.csv"
    plan = plan_shards(params=params, shards_per_task=shards_per_task, videos=folder, captions=captions, split=split)
    return in_parallel(
        lambda **part: placement.place(
            prepare(
                params=params,
                videos=folder,
                captions=captions,
                split=split,
                generator=generator,
                clips=at.clips(str(split)),
                conditions=at.conditions(str(split)),
                **part,
            ),
            "preparation",
        ),
        placement.place(plan, "control").output,
        placement=placement,
    )


def candidates_of(
    placement: Placement,
    *,
    params: Any,
    conditions: Any,
    generator: Any,
    output: str,
    shards_per_task: Any,
    count: int = 0,
) -> dsl.PipelineTask:
    """The task that completes the candidates for all clips of `conditions`."""
    plan = placement.place(plan_shards(params=params, shards_per_task=shards_per_task, data=conditions), "control")
    return in_parallel(
        lambda **part: placement.place(
            generate(
                params=params, conditions=conditions, generator=generator, output=output, candidates=count, **part
            ),
            "generation",
        ),
        plan.output,
        placement=placement,
    )


def scores_of(
    placement: Placement, *, params: Any, clips: str, candidates: Any, scorers: Any, output: str, shards_per_task: Any
) -> dsl.PipelineTask:
    """The task that completes the scores of all `candidates`."""
    plan = placement.place(plan_shards(params=params, shards_per_task=shards_per_task, data=candidates), "control")
    return in_parallel(
        lambda **part: placement.place(
            score(params=params, clips=clips, candidates=candidates, scorers=scorers, output=output, **part),
            "scoring",
        ),
        plan.output,
        placement=placement,
    )


def candidate_set(placement: Placement) -> Part:
    """The part that makes a split's clips, conditions and candidates, or takes those of an earlier run."""

    @dsl.pipeline(name="candidate-set", description="Clips, conditions and candidates of a split")
    def part(
        params: dict, root: str, split: str, start_at: str, videos: str, generator: str, shards_per_task: int
    ) -> str:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = conditions_of(
                placement, params=params, root=root, split=split, videos=videos, generator=generator,
                shards_per_task=shards_per_task,
            )  # fmt: skip
            made = candidates_of(
                placement, params=params, conditions=value(prepared), generator=generator,
                output=layout(root).candidates(str(split)), shards_per_task=shards_per_task,
            )  # fmt: skip
        with dsl.Else(name="candidates-exist"):
            found = placement.place(take_existing(location=layout(root).candidates(str(split))), "control")
        return dsl.OneOf(value(made), found.output)

    return part


def held_out_set(placement: Placement) -> Part:
    """The part that makes the test split's clips and conditions, or takes those of an earlier run."""

    @dsl.pipeline(name="held-out-set", description="Clips and conditions of the held-out split")
    def part(params: dict, root: str, start_at: str, videos: str, generator: str, shards_per_task: int) -> str:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = conditions_of(
                placement, params=params, root=root, split="test", videos=videos, generator=generator,
                shards_per_task=shards_per_task,
            )  # fmt: skip
        with dsl.Else(name="clips-exist"):
            found = placement.place(take_existing(location=layout(root).conditions("test")), "control")
        return dsl.OneOf(value(prepared), found.output)

    return part


class System(NamedTuple):
    """Where a system's audio on the held-out clips lies, and its scores."""

    candidates: str
    scores: str


def system(placement: Placement) -> Part:
    """The part that lets a model make sound for the held-out clips, one candidate each, and scores it."""

    @dsl.pipeline(name="system", description="One candidate for every held-out clip, and its scores")
    def part(
        params: dict,
        root: str,
        name: str,
        clips: str,
        conditions: str,
        generator: str,
        scorers: str,
        shards_per_task: int,
    ) -> System:
        at = layout(root)
        made = candidates_of(
            placement, params=params, conditions=conditions, generator=generator,
            output=at.candidates(f"test-{name}"), shards_per_task=shards_per_task, count=1,
        )  # fmt: skip
        scored = scores_of(
            placement, params=params, clips=clips, candidates=value(made), scorers=scorers,
            output=at.scores(f"test-{name}"), shards_per_task=shards_per_task,
        )  # fmt: skip
        return System(candidates=value(made), scores=value(scored))

    return part
