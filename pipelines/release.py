"""From an evaluation to the registry: gate, versions tagged with the decision, and promotion where it is asked for."""

from kfp import dsl

from components.gate import gate
from components.register import register
from pipelines.parts import Part, layout, value
from pipelines.placement import Placement


def release(placement: Placement) -> Part:
    """The part that decides about the aligned model, registers it whatever the decision, and promotes it if it may."""

    @dsl.pipeline(name="release", description="Gate, register, and promote if asked for and passed")
    def part(
        params: dict,
        root: str,
        data_root: str,
        base: str,
        aligned: str,
        evaluation: str,
        report: str,
        audioscore: str,
        pairs: str,
    ) -> bool:
        at, data = layout(root), layout(data_root)
        decided = placement.place(gate(params=params, evaluation=evaluation, output=at.decision), "control")
        registered = placement.place(
            register(
                params=params,
                base=base,
                aligned=aligned,
                evaluation=evaluation,
                report=report,
                output=at.registration,
                alignment=at.alignment,
                audioscore=audioscore,
                pairs=pairs,
                annotation_data=data.candidates("annotation"),
                preference_data=data.candidates("preference"),
                evaluation_data=data.clips("test"),
            ),
            "tracking",
        )
        registered.after(decided)
        return value(decided)

    return part
