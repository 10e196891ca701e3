"""From candidates to preference pairs: scores, ratings, AudioScore, mining (paper 2.1 to 2.3)."""

from typing import NamedTuple

from kfp import dsl

from components.preference import import_ratings, mine, train_audioscore
from components.run import take_existing
from components.tiny import annotate
from pipelines.parts.shards import score_shards
from pipelines.parts.values import Part, layout, value
from pipelines.placement import Placement


class Preference(NamedTuple):
    """Where AudioScore and the preference pairs lie."""

    audioscore: str
    pairs: str


def preference_pairs(placement: Placement) -> Part:
    """The part that makes the pairs, from people's ratings if there is a CSV of them, or takes those of an earlier
    run."""
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
        at, data = layout(root), layout(data_root)
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
                simulated = placement.place(
                    annotate(params=params, candidates=annotation_candidates, events=events, output=at.ratings),
                    "control",
                )
            with dsl.Else(name="ratings-given"):
                imported = placement.place(
                    import_ratings(params=params, csv=ratings_csv, candidates=annotation_candidates, output=at.ratings),
                    "control",
                )
            rated = dsl.OneOf(value(simulated), value(imported))
            classifier = placement.place(
                train_audioscore(params=params, scores=rated_scores, ratings=rated, output=at.audioscore),
                "control",
            )
            mined = placement.place(
                mine(
                    params=params,
                    scores=scores,
                    audioscore=value(classifier),
                    output=at.pairs,
                    ratings=rated,
                    rated_scores=rated_scores,
                ),
                "control",
            )
        with dsl.Else(name="pairs-given"):
            found_audioscore = placement.place(take_existing(location=data.audioscore), "control")
            found_pairs = placement.place(take_existing(location=data.pairs), "control")
        return Preference(
            audioscore=dsl.OneOf(value(classifier), found_audioscore.output),
            pairs=dsl.OneOf(value(mined), found_pairs.output),
        )

    return part
