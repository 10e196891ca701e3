"""Steps of the paper that several pipelines share: sources, sets of clips with candidates, systems sampled and scored.

Each is a pipeline of its own, so that a run's graph shows the paper's steps and hides the shards inside them.
"""

from typing import NamedTuple

from kfp import dsl

from components.run import take_models, take_set
from components.tiny import pretrain, world
from pipelines.parts.shards import Prepared, candidate_shards, prepared_shards, score_shards
from pipelines.parts.values import Part, layout
from pipelines.placement import Placement
from v2a_dpo.orchestration.existing import ClipSet, Sources


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
            events=dsl.OneOf(made.outputs["events"], given.outputs["events"]),
            generator=dsl.OneOf(trained.outputs["generator"], given.outputs["generator"]),
            scorers=dsl.OneOf(trained.outputs["scorers"], given.outputs["scorers"]),
        )

    return part


def candidate_set(placement: Placement) -> Part:
    """The part that makes a split's clips, conditions and candidates, or takes those of an earlier run."""
    prepare_all, generate_all = prepared_shards(placement), candidate_shards(placement)

    @dsl.pipeline(name="candidate-set", description="Clips, conditions and candidates of a split")
    def part(params: dict, root: str, split: str, start_at: str, videos: str, generator: str) -> ClipSet:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = prepare_all(
                params=params, root=root, split=split, videos=videos, generator=generator,
            )  # fmt: skip
            made = generate_all(
                params=params, root=root, name=split, conditions=prepared.outputs["conditions"], generator=generator,
            )  # fmt: skip
        with dsl.Else(name="candidates-exist"):
            found = placement.place(take_set(root=root, split=split), "control")
        return ClipSet(
            clips=dsl.OneOf(prepared.outputs["clips"], found.outputs["clips"]),
            conditions=dsl.OneOf(prepared.outputs["conditions"], found.outputs["conditions"]),
            candidates=dsl.OneOf(made.output, found.outputs["candidates"]),
        )

    return part


def held_out_set(placement: Placement) -> Part:
    """The part that makes the test split's clips and conditions, or takes those of an earlier run."""
    prepare_all = prepared_shards(placement)

    @dsl.pipeline(name="held-out-set", description="Clips and conditions of the held-out split")
    def part(params: dict, root: str, start_at: str, videos: str, generator: str) -> Prepared:
        with dsl.If(start_at == "videos", name="from-videos"):
            prepared = prepare_all(
                params=params, root=root, split="test", videos=videos, generator=generator,
            )  # fmt: skip
        with dsl.Else(name="clips-exist"):
            found = placement.place(take_set(root=root, split="test"), "control")
        return Prepared(
            clips=dsl.OneOf(prepared.outputs["clips"], found.outputs["clips"]),
            conditions=dsl.OneOf(prepared.outputs["conditions"], found.outputs["conditions"]),
        )

    return part


class System(NamedTuple):
    """Where a system's audio on the held-out clips lies, and its scores."""

    candidates: str
    scores: str


def system(placement: Placement) -> Part:
    """The part that lets a model make sound for the held-out clips, one candidate each, and scores it."""
    generate_all, score_all = candidate_shards(placement), score_shards(placement)

    @dsl.pipeline(name="system", description="One candidate for every held-out clip, and its scores")
    def part(
        params: dict,
        root: str,
        name: str,
        clips: str,
        conditions: str,
        generator: str,
        scorers: str,
    ) -> System:
        made = generate_all(
            params=params, root=root, name=name, conditions=conditions, generator=generator,
            count=1,
        )  # fmt: skip
        scored = score_all(
            params=params, root=root, name=name, clips=clips, candidates=made.output, scorers=scorers,
        )  # fmt: skip
        return System(candidates=made.output, scores=scored.output)

    return part
