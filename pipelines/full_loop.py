"""The full loop of the paper: from videos to an aligned, evaluated and registered model."""

from typing import Any

from kfp import dsl

from components.evaluation import evaluate, guidance, report
from components.run import check_run, summarize_run
from pipelines.parts.alignment import alignment
from pipelines.parts.preference import preference_pairs
from pipelines.parts.release import release
from pipelines.parts.sets import candidate_set, held_out_set, sources, system
from pipelines.parts.values import layout, value
from pipelines.placement import Placement


def full_loop(placement: Placement) -> Any:
    """The whole loop: candidates, scores, ratings, AudioScore, pairs, alignment, evaluation, report, gate, registry.

    Takes `params` (the content of a params file) and `root` (the prefix of all artifacts). Without more it runs the
    tiny profile in its own procedural world. `videos` names a prefix with one folder per split (annotation, preference,
    test), each with a `captions.csv`; `generator` and `scorers` the models' folders then. `ratings_csv` replaces the
    simulated rater by people. `start_at` is videos, or candidates or pairs for a run that takes those of the finished
    run at `data_root`. With `promotion` a model that passes the gates becomes champion if it also beats the present
    one. Running the pipeline again makes only what is missing.
    """
    make_sources, make_set, make_test = sources(placement), candidate_set(placement), held_out_set(placement)
    make_pairs, make_system, make_release = preference_pairs(placement), system(placement), release(placement)

    @dsl.pipeline(name="v2a-dpo", description=full_loop.__doc__)
    def v2a_dpo(
        params: dict,
        root: str,
        videos: str = "",
        generator: str = "",
        scorers: str = "",
        ratings_csv: str = "",
        start_at: str = "videos",
        data_root: str = "",
        promotion: bool = False,
    ) -> None:
        ended = placement.notifying(placement.place(summarize_run(root=root), "control"))
        with dsl.ExitHandler(ended, name="loop"):
            checked = placement.place(
                check_run(
                    params=params, root=root, start_at=start_at, data_root=data_root, videos=videos,
                    generator=generator, scorers=scorers, ratings_csv=ratings_csv,
                ),
                "control",
            )  # fmt: skip
            data_root, at = checked.output, layout(root)
            given = make_sources(
                params=params, root=root, videos=videos, generator=generator, scorers=scorers
            ).after(checked).outputs  # fmt: skip
            base, judges, events = given["generator"], given["scorers"], given["events"]
            rated, mined = (
                make_set(
                    params=params, root=data_root, split=split, start_at=start_at, videos=given["videos"],
                    generator=base,
                ).outputs
                for split in ("annotation", "preference")
            )  # fmt: skip
            test = make_test(
                params=params, root=data_root, start_at=start_at, videos=given["videos"], generator=base,
            ).outputs  # fmt: skip
            preference = make_pairs(
                params=params, root=root, data_root=data_root, start_at=start_at,
                annotation_clips=rated["clips"], annotation_candidates=rated["candidates"],
                preference_clips=mined["clips"], preference_candidates=mined["candidates"],
                scorers=judges, events=events, ratings_csv=ratings_csv,
            ).outputs  # fmt: skip
            aligned = alignment(
                placement,
                params=params,
                pairs=preference["pairs"],
                annotation_candidates=rated["candidates"],
                annotation_conditions=rated["conditions"],
                preference_candidates=mined["candidates"],
                preference_conditions=mined["conditions"],
                generator=base,
                output=at.aligned,
                log=at.alignment,
            )
            before, after = (
                make_system(
                    params=params, root=root, name=f"test-{name}", clips=test["clips"], conditions=test["conditions"],
                    generator=model, scorers=judges,
                ).outputs
                for name, model in (("base", base), ("aligned", value(aligned)))
            )  # fmt: skip
            evaluated = placement.place(
                evaluate(
                    params=params,
                    clips=test["clips"],
                    scorers=judges,
                    base_candidates=before["candidates"],
                    base_scores=before["scores"],
                    aligned_candidates=after["candidates"],
                    aligned_scores=after["scores"],
                    output=at.evaluation,
                    events=events,
                ),
                "evaluation",
            )
            curve = placement.place(
                guidance(
                    params=params,
                    clips=test["clips"],
                    conditions=test["conditions"],
                    scorers=judges,
                    base=base,
                    aligned=value(aligned),
                    evaluation=value(evaluated),
                    output=at.guidance,
                    events=events,
                ),
                "evaluation",
            )
            page = placement.place(
                report(
                    params=params,
                    evaluation=value(evaluated),
                    clips=test["clips"],
                    base_candidates=before["candidates"],
                    base_scores=before["scores"],
                    aligned_candidates=after["candidates"],
                    aligned_scores=after["scores"],
                    output=f"{at.report}/index.html",
                    events=events,
                    guidance=value(curve),
                    alignment=at.alignment,
                    audioscore=preference["audioscore"],
                    pairs=preference["pairs"],
                ),
                "control",
            )
            make_release(
                params=params, root=root, data_root=data_root, scorers=judges,
                annotation_candidates=rated["candidates"], preference_candidates=mined["candidates"],
                test_clips=test["clips"], base=base, aligned=value(aligned), evaluation=value(evaluated),
                report=value(page), guidance=value(curve), audioscore=preference["audioscore"],
                pairs=preference["pairs"], promotion=promotion,
            )  # fmt: skip

    return v2a_dpo
