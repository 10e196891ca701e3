"""Gates, versions in MLflow's registry, promotion."""

from kfp.dsl import Artifact, Metrics, Output

from components.definition import component


@component("control")
def gate(params: dict, evaluation: str, output: str, numbers: Output[Metrics]) -> bool:
    """Writes the decision with its reasons to the file `output`; a model that fails is a result, not an error."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.gate import gate as stage

    return run_stage(stage, locals(), numbers=(output, numbers)).passed


@component("tracking")
def register(
    params: dict,
    base: str,
    aligned: str,
    evaluation: str,
    report: str,
    output: str,
    record: Output[Artifact],
    guidance: str = "",
    alignment: str = "",
    audioscore: str = "",
    pairs: str = "",
    annotation_data: str = "",
    preference_data: str = "",
    evaluation_data: str = "",
    gate: str = "",
    scorers: str = "",
    root: str = "",
    data_root: str = "",
) -> str:
    """Logs and registers, writes what was registered to the file `output`, and returns the aligned model's version.

    The run's own artifacts are under `root`, those of an earlier run under `data_root`.
    """
    from v2a_dpo.artifacts.layout import Layout
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.register import register as stage

    registered = run_stage(
        stage,
        locals(),
        training_data=[data for data in (preference_data, annotation_data) if data],
        evaluation_data=[data for data in (evaluation_data,) if data],
        ancestors=[*Layout(root).ancestors, *Layout(data_root).ancestors],
        page=(output, record),
    )
    return registered.versions["aligned"].version


@component("tracking")
def promote(params: dict, version: str, reason: str, output: str, outcome: Output[Artifact]) -> bool:
    """Writes the outcome to the file `output` and returns whether the version is champion now."""
    from v2a_dpo.orchestration.task import run_stage
    from v2a_dpo.stages.promote import promote as stage

    return run_stage(stage, locals(), page=(output, outcome)).promoted
