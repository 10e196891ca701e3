"""From candidates to preference pairs: scores, ratings, AudioScore, mining (paper 2.1 to 2.3)."""

from typing import NamedTuple

from kfp import dsl

from components.preference import import_ratings, mine, train_audioscore
from components.run import take_existing
from components.tiny import annotate
from pipelines.parts.shards import score_shards
from pipelines.parts.values import Part, layout_of, value
from pipelines.placement import Placement


class Preference(NamedTuple):
    """The prefixes of AudioScore and of the preference pairs."""

    audioscore: str
    pairs: str


def preference_pairs(placement: Placement) -> Part:
    """The part that makes the pairs, with people's ratings if a CSV holds them, or takes those of an earlier run."""
    score_all = score_shards(placement)

    @dsl.pipeline(name="preference-pairs", description="Scores, ratings, AudioScore and preference pairs")
    def part(
        params: dict,
        root: str,
        data_root: str,
        start_at: str,
        annotation_clips: str,
        annotation_candidates: str,
        preference_clips: str,
        preference_candidates: str,
        scorers: str,
        events: str,
        ratings_csv: str,
    ) -> Preference:
        layout, earlier = layout_of(root), layout_of(data_root)
        with dsl.If(start_at != "pairs", name="no-pairs-given"):
            rated_scores = score_all(
                params=params, root=root, name="annotation", clips=annotation_clips, candidates=annotation_candidates,
                scorers=scorers,
            ).output  # fmt: skip
            scores = score_all(
                params=params, root=root, name="preference", clips=preference_clips, candidates=preference_candidates,
                scorers=scorers,
            ).output  # fmt: skip
            with dsl.If(ratings_csv == "", name="no-ratings-given"):
                simulated = placement.task(
                    annotate, params=params, candidates=annotation_candidates, events=events, output=layout.ratings
                )
            with dsl.Else(name="ratings-given"):
                imported = placement.task(
                    import_ratings, params=params, csv=ratings_csv, candidates=annotation_candidates,
                    output=layout.ratings,
                )  # fmt: skip
            rated = dsl.OneOf(value(simulated), value(imported))
            classifier = placement.task(
                train_audioscore, params=params, scores=rated_scores, ratings=rated, output=layout.audioscore
            )
            mined = placement.task(
                mine, params=params, scores=scores, audioscore=value(classifier), output=layout.pairs, ratings=rated,
                rated_scores=rated_scores,
            )  # fmt: skip
        with dsl.Else(name="pairs-given"):
            existing_audioscore = placement.task(take_existing, location=earlier.audioscore)
            existing_pairs = placement.task(take_existing, location=earlier.pairs)
        return Preference(
            audioscore=dsl.OneOf(value(classifier), existing_audioscore.output),
            pairs=dsl.OneOf(value(mined), existing_pairs.output),
        )

    return part
