"""Evaluation alone: any registered model, model folder, or candidates made anywhere, against a base."""

from typing import Any

from kfp import dsl

from components.evaluation import evaluate, report
from components.run import fetch_model, take_existing
from pipelines.parts.sets import System, system
from pipelines.parts.shards import candidate_shards, score_shards
from pipelines.parts.values import Part, layout_of, value
from pipelines.placement import Placement


def evaluation(placement: Placement) -> Any:
    """Compares a model with a base on held-out clips: metrics with intervals, tables and the report.

    Takes `params`, `root` (where results go), `clips` and `conditions` (the held-out set of a finished run), `scorers`,
    and `base`. What is compared is `model`, or `candidates` made for the same clips by anything. A model is a folder or
    an address in MLflow's registry such as `models:/v2a-dpo@champion`. `events` lets the tiny profile's rater judge.
    """
    make_base, make_other = system(placement), _model_or_candidates(placement)

    @dsl.pipeline(name="evaluate", description=evaluation.__doc__)
    def pipeline(
        params: dict,
        root: str,
        clips: str,
        conditions: str,
        scorers: str,
        base: str,
        model: str = "",
        candidates: str = "",
        events: str = "",
    ) -> None:
        layout = layout_of(root)
        with placement.summarized(root, name="evaluation"):
            fetched = placement.task(fetch_model, params=params, model=base, output=layout.path("models", "base"))
            before = make_base(
                params=params, root=root, name="test-base", clips=clips, conditions=conditions,
                generator=value(fetched), scorers=scorers,
            ).outputs  # fmt: skip
            after = make_other(
                params=params, root=root, clips=clips, conditions=conditions, model=model, candidates=candidates,
                scorers=scorers,
            ).outputs  # fmt: skip
            systems = {
                "base_candidates": before["candidates"],
                "base_scores": before["scores"],
                "aligned_candidates": after["candidates"],
                "aligned_scores": after["scores"],
            }
            evaluated = placement.task(
                evaluate, params=params, clips=clips, scorers=scorers, output=layout.evaluation, events=events,
                **systems,
            )  # fmt: skip
            placement.task(
                report, params=params, evaluation=value(evaluated), clips=clips, output=layout.report,
                events=events, **systems,
            )  # fmt: skip

    return pipeline


def _model_or_candidates(placement: Placement) -> Part:
    """The part that scores the candidates to compare with the base: existing ones, or sampled from a model."""
    generate_all, score_all = candidate_shards(placement), score_shards(placement)

    @dsl.pipeline(name="model-or-candidates", description="The system to compare with the base, and its scores")
    def part(params: dict, root: str, clips: str, conditions: str, model: str, candidates: str, scorers: str) -> System:
        with dsl.If(candidates == "", name="model-given"):
            folder = layout_of(root).path("models", "aligned")
            fetched = placement.task(fetch_model, params=params, model=model, output=folder)
            sampled = generate_all(
                params=params, root=root, name="test-aligned", conditions=conditions, generator=value(fetched),
                count=1,
            )  # fmt: skip
        with dsl.Else(name="candidates-given"):
            existing = placement.task(take_existing, location=candidates)
        audio = dsl.OneOf(sampled.output, existing.output)
        scored = score_all(
            params=params, root=root, name="test-aligned", clips=clips, candidates=audio, scorers=scorers
        )  # fmt: skip
        return System(candidates=audio, scores=scored.output)

    return part
