"""Steps of the paper that several pipelines share: sources, sets of clips with candidates, systems sampled and scored.

Each is a pipeline of its own, so that a run's graph shows the paper's steps and hides the shards inside them.
"""

from typing import NamedTuple

from kfp import dsl

from components.run import take_models, take_set
from components.tiny import pretrain, world
from pipelines.parts.shards import Prepared, candidate_shards, prepared_shards, score_shards
from pipelines.parts.values import Part, layout_of
from pipelines.placement import Placement
from v2a_dpo.orchestration.existing import ClipSet, Sources


def sources(placement: Placement) -> Part:
    """The part that makes the tiny profile's videos and models, or takes those of the run's inputs."""

    @dsl.pipeline(name="sources", description="The tiny world and its models, or the given videos and models")
    def part(params: dict, root: str, videos: str, generator: str, scorers: str) -> Sources:
        layout = layout_of(root)
        with dsl.If(videos == "", name="no-videos-given"):
            rendered = placement.task(world, params=params, output=layout.world)
            trained = placement.task(pretrain, params=params, output=layout.pretrained)
        with dsl.Else(name="videos-given"):
            existing = placement.task(take_models, videos=videos, generator=generator, scorers=scorers)
        return Sources(
            videos=dsl.OneOf(rendered.outputs["videos"], existing.outputs["videos"]),
            events=dsl.OneOf(rendered.outputs["events"], existing.outputs["events"]),
            generator=dsl.OneOf(trained.outputs["generator"], existing.outputs["generator"]),
            scorers=dsl.OneOf(trained.outputs["scorers"], existing.outputs["scorers"]),
        )

    return part


def candidate_set(placement: Placement) -> Part:
    """The part that makes a split's clips, conditions and candidates, or takes those of an earlier run."""
    prepare_all, generate_all = prepared_shards(placement), candidate_shards(placement)

    @dsl.pipeline(name="candidate-set", description="Clips, conditions and candidates of a split")
    def part(params: dict, root: str, split: str, start_at: str, videos: str, generator: str) -> ClipSet:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = prepare_all(params=params, root=root, split=split, videos=videos, generator=generator)
            conditions = prepared.outputs["conditions"]
            sampled = generate_all(params=params, root=root, name=split, conditions=conditions, generator=generator)
        with dsl.Else(name="candidates-exist"):
            existing = placement.task(take_set, root=root, split=split)
        return ClipSet(
            clips=dsl.OneOf(prepared.outputs["clips"], existing.outputs["clips"]),
            conditions=dsl.OneOf(conditions, existing.outputs["conditions"]),
            candidates=dsl.OneOf(sampled.output, existing.outputs["candidates"]),
        )

    return part


def held_out_set(placement: Placement) -> Part:
    """The part that makes the test split's clips and conditions, or takes those of an earlier run."""
    prepare_all = prepared_shards(placement)

    @dsl.pipeline(name="held-out-set", description="Clips and conditions of the held-out split")
    def part(params: dict, root: str, start_at: str, videos: str, generator: str) -> Prepared:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = prepare_all(params=params, root=root, split="test", videos=videos, generator=generator)
        with dsl.Else(name="clips-exist"):
            existing = placement.task(take_set, root=root, split="test")
        return Prepared(
            clips=dsl.OneOf(prepared.outputs["clips"], existing.outputs["clips"]),
            conditions=dsl.OneOf(prepared.outputs["conditions"], existing.outputs["conditions"]),
        )

    return part


class System(NamedTuple):
    """The prefixes of a system's audio for the test clips, and of its scores."""

    candidates: str
    scores: str


def system(placement: Placement) -> Part:
    """The part that samples one candidate per test clip from a model, and scores them."""
    generate_all, score_all = candidate_shards(placement), score_shards(placement)

    @dsl.pipeline(name="system", description="One candidate for every held-out clip, and its scores")
    def part(params: dict, root: str, name: str, clips: str, conditions: str, generator: str, scorers: str) -> System:
        sampled = generate_all(
            params=params, root=root, name=name, conditions=conditions, generator=generator, count=1
        ).output  # fmt: skip
        scored = score_all(params=params, root=root, name=name, clips=clips, candidates=sampled, scorers=scorers)
        return System(candidates=sampled, scores=scored.output)

    return part
