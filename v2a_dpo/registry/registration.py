"""Registration: the finished loop as runs in MLflow, base and aligned model as versions of one registered model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from v2a_dpo.alignment.run.curves import live_run
from v2a_dpo.alignment.run.record import read_run
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import read_bytes
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.description import VersionDescription, describe_version
from v2a_dpo.registry.evidence import EVIDENCE_TAG, log_evidence
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.registry.lineage import Lineage, trace
from v2a_dpo.registry.stage_records import LoopArtifacts, StageRecord, stage_records
from v2a_dpo.registry.versions import ModelFolder, Packaged, RegisteredVersion, Registry
from v2a_dpo.tracking.connection import Tracking, tracking_uri
from v2a_dpo.tracking.failures import failures_reported, public_uri
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.source import source_tags

#: The alias that each role gets; the promotion decides about `champion`.
ALIASES = {"base": "base", "aligned": "candidate"}


@dataclass(frozen=True)
class Registration:
    """What was registered and where: the loop's runs by stage, and the versions by role."""

    tracking_uri: str
    experiment: str
    run_id: str
    runs: dict[str, str]
    model_name: str
    fingerprint: str
    versions: dict[str, RegisteredVersion]

    def __str__(self) -> str:
        versions = ", ".join(f"{role} as version {item.version}" for role, item in self.versions.items())
        return f"Registered {self.model_name} ({versions}) in {self.tracking_uri}; run {self.run_id}"


def register_loop(
    params: Params,
    artifacts: LoopArtifacts,
    *,
    decision: GateDecision | None,
    packaged: Packaged,
    progress: Progress = silent,
) -> Registration:
    """Logs the loop as one run with one nested run per stage, and registers its models.

    `packaged` turns a model folder into the files to upload; the aligned version gets the gates' `decision`. The same
    artifacts are neither logged nor registered twice. Raises UserError when MLflow cannot be reached.
    """
    records = stage_records(artifacts)
    page = read_bytes(artifacts.report).decode()
    origins = _origins(params, artifacts)
    with ExitStack() as stack:
        models = {
            role: ModelFolder.of(stack.enter_context(local_copy(uri)), role=role)
            for role, uri in (("base", artifacts.base), ("aligned", artifacts.aligned))
        }
        stack.enter_context(failures_reported(tracking_uri()))
        tracking = Tracking.connect(params.registry.experiment)
        registry = Registry(tracking, params.registry.model_name, packaged=packaged)
        loop = fingerprint(
            params,
            {role: model.fingerprint for role, model in models.items()},
            {stage: record.digest() for stage, record in records.items()},
            page,
            decision.to_dict() if decision else None,
        )
        descriptions = {
            role: describe_version(
                params, model, evaluation=artifacts.evaluation, lineage=origins[role], decision=decision
            )
            for role, model in models.items()
        }
        run = tracking.finished_run(loop)
        if run is None:
            tracking.delete_unfinished(loop)
            with tracking.run(f"{params.profile} loop", fingerprint=loop, tags={"profile": params.profile}) as run:
                training = live_run(tracking, artifacts.alignment)
                run.log_params(params.model_dump(mode="json"))
                run.log_text(page, "report/index.html")
                ids = {role: registry.log_model(model, run_id=run.run_id) for role, model in models.items()}
                _log_stages(tracking, run, records, loop=loop, models=ids, training=training)
                for role, description in descriptions.items():
                    log_evidence(run, role, description.texts, EvaluationFolder(artifacts.evaluation).evaluated(role))
        progress("Logged the loop", 1, 2)
        versions = _register_models(registry, run, params, models, descriptions=descriptions)
        runs = tracking.children(run)
    progress("Registered the models", 2, 2)
    return Registration(
        tracking_uri=public_uri(tracking.uri),
        experiment=params.registry.experiment,
        run_id=run.run_id,
        runs=runs,
        model_name=registry.name,
        fingerprint=loop,
        versions=versions,
    )


def _origins(params: Params, loop: LoopArtifacts) -> dict[str, Lineage]:
    """The lineage of the base and of the aligned model, by role."""
    inputs = (loop.base, loop.audioscore, loop.pairs, *loop.training_data, *loop.evaluation_data, *loop.ancestors)
    code, digest = source_tags(), fingerprint(params)
    return {
        "base": trace(loop.base, inputs={}, folders=[], code=code, params=digest),
        "aligned": trace(
            loop.aligned,
            inputs={"base": loop.base} | ({"pairs": loop.pairs} if loop.pairs else {}),
            folders=[uri for uri in inputs if uri],
            code=code,
            params=digest,
            kept=read_run(loop.alignment).kept if loop.alignment else "",
        ),
    }


def _log_stages(
    tracking: Tracking,
    run: TrackedRun,
    records: Mapping[str, StageRecord],
    *,
    loop: str,
    models: Mapping[str, str],
    training: TrackedRun | None,
) -> None:
    """Logs one nested run per stage to the loop's `run`.

    `training` is the alignment's run with its live curves, if any. The evaluation's metrics belong to the logged
    `models` (role -> id): `base/...` to the base, all others to the aligned one.
    """
    for stage, record in records.items():
        if stage == "align" and training is not None:
            replace(record, metrics=[]).log(training)
            tracking.adopt(training, parent=run)
            continue
        metrics = record.metrics
        if stage == "evaluate":
            metrics = [
                replace(point, model_id=models.get(point.key.partition("/")[0], models["aligned"])) for point in metrics
            ]
        with tracking.run(stage, fingerprint=loop, parent=run) as nested:
            replace(record, metrics=metrics).log(nested)


def _register_models(
    registry: Registry,
    run: TrackedRun,
    params: Params,
    models: Mapping[str, ModelFolder],
    *,
    descriptions: Mapping[str, VersionDescription],
) -> dict[str, RegisteredVersion]:
    versions = {}
    for role, model in models.items():
        tags = {
            "profile": params.profile,
            "seed": str(params.seed),
            "generator": f"{params.generator.family}/{params.generator.variant}",
            "base": models["base"].fingerprint,
            "loop_run": run.run_id,
            EVIDENCE_TAG: run.run_id,
            **descriptions[role].tags,
        }
        model_id = registry.log_model(model, run_id=run.run_id)
        versions[role] = registry.register(
            model, model_id=model_id, run_id=run.run_id, tags=tags, description=descriptions[role].card
        )
        registry.set_alias(ALIASES[role], versions[role])
    return versions
