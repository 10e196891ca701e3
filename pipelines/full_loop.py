"""The full loop of the paper: from videos to an aligned, evaluated and registered model."""

from typing import Any

from kfp import dsl

from components.evaluation import evaluate, guidance, report
from components.run import check_run
from pipelines.parts.alignment import alignment
from pipelines.parts.preference import preference_pairs
from pipelines.parts.release import release
from pipelines.parts.sets import candidate_set, held_out_set, sources, system
from pipelines.parts.values import layout_of, value
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
        with placement.summarized(root, name="loop"):
            inputs = {"params": params, "root": root, "videos": videos, "generator": generator, "scorers": scorers}
            checked = placement.task(
                check_run, start_at=start_at, data_root=data_root, ratings_csv=ratings_csv, **inputs
            )  # fmt: skip
            data_root, layout = checked.output, layout_of(root)
            sources_of_run = make_sources(**inputs).after(checked).outputs
            base, judges, events = (sources_of_run[name] for name in ("generator", "scorers", "events"))
            earlier = {
                "params": params, "root": data_root, "start_at": start_at, "videos": sources_of_run["videos"],
                "generator": base,
            }  # fmt: skip
            rated, mined = (make_set(split=split, **earlier).outputs for split in ("annotation", "preference"))
            test = make_test(**earlier).outputs
            preference = make_pairs(
                params=params, root=root, data_root=data_root, start_at=start_at,
                annotation_clips=rated["clips"], annotation_candidates=rated["candidates"],
                preference_clips=mined["clips"], preference_candidates=mined["candidates"],
                scorers=judges, events=events, ratings_csv=ratings_csv,
            ).outputs  # fmt: skip
            aligned = alignment(
                placement, params=params, pairs=preference["pairs"],
                annotation_candidates=rated["candidates"], annotation_conditions=rated["conditions"],
                preference_candidates=mined["candidates"], preference_conditions=mined["conditions"],
                generator=base, output=layout.aligned, log=layout.alignment,
            )  # fmt: skip
            before, after = (
                make_system(
                    params=params, root=root, name=f"test-{name}", clips=test["clips"], conditions=test["conditions"],
                    generator=model, scorers=judges,
                ).outputs
                for name, model in (("base", base), ("aligned", value(aligned)))
            )  # fmt: skip
            systems = {
                "base_candidates": before["candidates"], "base_scores": before["scores"],
                "aligned_candidates": after["candidates"], "aligned_scores": after["scores"],
            }  # fmt: skip
            evaluated = placement.task(
                evaluate, params=params, clips=test["clips"], scorers=judges, output=layout.evaluation, events=events,
                **systems,
            )  # fmt: skip
            curve = placement.task(
                guidance, params=params, clips=test["clips"], conditions=test["conditions"], scorers=judges, base=base,
                aligned=value(aligned), evaluation=value(evaluated), output=layout.guidance, events=events,
            )  # fmt: skip
            page = placement.task(
                report, params=params, evaluation=value(evaluated), clips=test["clips"],
                output=layout.report, events=events, guidance=value(curve), alignment=layout.alignment,
                audioscore=preference["audioscore"], pairs=preference["pairs"], **systems,
            )  # fmt: skip
            make_release(
                params=params, root=root, data_root=data_root, scorers=judges,
                annotation_candidates=rated["candidates"], preference_candidates=mined["candidates"],
                test_clips=test["clips"], base=base, aligned=value(aligned), evaluation=value(evaluated),
                report=value(page), guidance=value(curve), audioscore=preference["audioscore"],
                pairs=preference["pairs"], promotion=promotion,
            )  # fmt: skip

    return v2a_dpo
