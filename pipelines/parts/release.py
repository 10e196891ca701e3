"""From an evaluation to the registry: gate, versions tagged with the decision, and promotion on request."""

from kfp import dsl

from components.release import gate, promote, register
from pipelines.parts.values import Part, layout_of, value
from pipelines.placement import Placement


def release(placement: Placement) -> Part:
    """The part that asks the gates about the aligned model, registers it in any case, and promotes it if they hold."""

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
        layout = layout_of(root)
        decided = placement.task(gate, params=params, evaluation=evaluation, output=layout.decision)
        registered = placement.task(
            register, params=params, base=base, aligned=aligned, evaluation=evaluation, report=report,
            output=layout.registration, guidance=guidance, alignment=layout.alignment, audioscore=audioscore,
            pairs=pairs, annotation_data=annotation_candidates, preference_data=preference_candidates,
            evaluation_data=test_clips, gate=layout.decision, scorers=scorers, root=root, data_root=data_root,
        ).after(decided)  # fmt: skip
        # KFP takes no `and`.
        with (
            dsl.If(promotion == True, name="promotion-wanted"),  # noqa: E712
            dsl.If(value(decided) == True, name="gates-hold"),  # noqa: E712
        ):
            placement.task(
                promote,
                params=params,
                version=value(registered),
                reason="asked for by the pipeline run",
                output=layout.path("promotion.json"),
            )
        return value(decided)

    return part
