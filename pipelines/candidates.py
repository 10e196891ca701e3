"""The first part of the loop alone: candidates for people to rate."""

from typing import Any

from kfp import dsl

from components.run import check_run
from pipelines.parts.sets import candidate_set, held_out_set, sources
from pipelines.placement import Placement


def candidates(placement: Placement) -> Any:
    """Clips, conditions and candidates of all splits, and nothing more: people rate them before the loop goes on.

    Takes what `v2a-dpo` takes. Afterwards run `v2a-dpo` with the same root, `start_at=candidates` and the ratings' CSV.
    """
    make_sources, make_set, make_test = sources(placement), candidate_set(placement), held_out_set(placement)

    @dsl.pipeline(name="candidates", description=candidates.__doc__)
    def pipeline(params: dict, root: str, videos: str = "", generator: str = "", scorers: str = "") -> None:
        with placement.summarized(root, name="first-part"):
            inputs = {"params": params, "root": root, "videos": videos, "generator": generator, "scorers": scorers}
            checked = placement.task(check_run, to_be_rated=True, **inputs)
            made = make_sources(**inputs).after(checked).outputs
            common = {
                "params": params, "root": root, "start_at": "videos", "videos": made["videos"],
                "generator": made["generator"],
            }  # fmt: skip
            for split in ("annotation", "preference"):
                make_set(split=split, **common)
            make_test(**common)

    return pipeline
