"""The first part of the loop alone: what people need in order to rate."""

from typing import Any

from kfp import dsl

from components.run import check_run, summarize_run
from pipelines.parts.sets import candidate_set, held_out_set, sources
from pipelines.placement import Placement


def candidates(placement: Placement) -> Any:
    """Clips, conditions and candidates of all splits, and nothing more: people rate them before the loop goes on.

    Takes what `v2a-dpo` takes. Afterwards run `v2a-dpo` with the same root, `start_at=candidates` and the ratings' CSV.
    """
    make_sources, make_set, make_test = sources(placement), candidate_set(placement), held_out_set(placement)

    @dsl.pipeline(name="candidates", description=candidates.__doc__)
    def pipeline(
        params: dict,
        root: str,
        videos: str = "",
        generator: str = "",
        scorers: str = "",
    ) -> None:
        ended = placement.notifying(placement.place(summarize_run(root=root), "control"))
        with dsl.ExitHandler(ended, name="first-part"):
            checked = placement.place(
                check_run(
                    params=params, root=root, videos=videos, generator=generator, scorers=scorers, to_be_rated=True
                ),
                "control",
            )
            given = make_sources(
                params=params, root=root, videos=videos, generator=generator, scorers=scorers
            ).after(checked).outputs  # fmt: skip
            for split in ("annotation", "preference"):
                make_set(
                    params=params, root=root, split=split, start_at="videos", videos=given["videos"],
                    generator=given["generator"],
                )  # fmt: skip
            make_test(
                params=params, root=root, start_at="videos", videos=given["videos"], generator=given["generator"],
            )  # fmt: skip

    return pipeline
