"""From an evaluation to the registry: gate, versions tagged with the decision, and promotion where it is asked for."""

from kfp import dsl

from components.release import gate, promote, register
from pipelines.parts.values import Part, layout, value
from pipelines.placement import Placement


def release(placement: Placement) -> Part:
    """The part that decides about the aligned model, registers it whatever the decision, and promotes it if it may."""

    @dsl.pipeline(name="release", description="Gate, register, and promote if asked for and passed")
    def part(
        params: dict,
        root: str,
        data_root: str,
        scorers: str,
        annotation_candidates: str,
        preference_candidates: str,
        test_clips: str,
        base: str,
        aligned: str,
        evaluation: str,
        report: str,
        guidance: str,
        audioscore: str,
        pairs: str,
        promotion: bool,
    ) -> bool:
        at = layout(root)
        decided = placement.place(gate(params=params, evaluation=evaluation, output=at.decision), "control")
        registered = placement.place(
            register(
                params=params,
                base=base,
                aligned=aligned,
                evaluation=evaluation,
                report=report,
                output=at.registration,
                guidance=guidance,
                alignment=at.alignment,
                audioscore=audioscore,
                pairs=pairs,
                annotation_data=annotation_candidates,
                preference_data=preference_candidates,
                evaluation_data=test_clips,
                gate=at.decision,
                scorers=scorers,
                root=root,
                data_root=data_root,
            ),
            "tracking",
        )
        registered.after(decided)
        # KFP takes no `and`.
        with dsl.If(promotion == True, name="promotion-wanted"), dsl.If(value(decided) == True, name="gates-hold"):  # noqa: E712
            placement.place(
                promote(
                    params=params,
                    version=value(registered),
                    reason="asked for by the pipeline run",
                    output=at.path("promotion.json"),
                ),
                "tracking",
            )
        return value(decided)

    return part
