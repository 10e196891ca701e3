"""Stage: the finished loop as runs in MLflow, base and aligned model as versions of one registered model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

from v2a_dpo.alignment.run.curves import live_run
from v2a_dpo.alignment.run.record import read_run
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import read_bytes, write_atomically
from v2a_dpo.config import Params
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.evidence import EVIDENCE_TAG, evaluated_in, log_evidence
from v2a_dpo.registry.facts import VersionFacts, version_facts
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.registry.lineage import trace
from v2a_dpo.registry.records import StageRecord, stage_records
from v2a_dpo.registry.versions import ModelFolder, RegisteredVersion, Registry
from v2a_dpo.serving.model_source import packaged_folder
from v2a_dpo.serving.settings import ServingSettings
from v2a_dpo.tracking.connection import Tracking, tracking_uri
from v2a_dpo.tracking.failures import failures_reported, public_uri
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.source import source_tags
from v2a_dpo.tracking.values import MetricPoint

#: The alias that each role gets; who deserves `champion` is decided elsewhere.
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


def register(
    params: Params,
    *,
    base: str,
    aligned: str,
    evaluation: str,
    report: str,
    output: str,
    guidance: str | None = None,
    alignment: str | None = None,
    audioscore: str | None = None,
    pairs: str | None = None,
    training_data: Sequence[str] = (),
    evaluation_data: Sequence[str] = (),
    ancestors: Sequence[str] = (),
    gate: str | None = None,
    progress: Progress = silent,
) -> Registration:
    """Logs the loop and registers its models; writes what was registered to the file `output`.

    The stages whose artifacts are given become nested runs; `training_data` and `evaluation_data` are data set folders to
    record as inputs by fingerprint, `ancestors` further data sets and models that the lineage may lead to. `gate` is the
    file with the gates' decision, which the aligned version then carries; it is registered either way. The same artifacts
    are neither logged nor registered twice. Raises UserError when MLflow cannot be reached.
    """
    decision = None if gate is None else GateDecision.from_dict(json.loads(read_bytes(gate)))
    records = stage_records(
        evaluation=evaluation,
        guidance=guidance,
        alignment=alignment,
        audioscore=audioscore,
        pairs=pairs,
        training_data=training_data,
        evaluation_data=evaluation_data,
        ancestors=ancestors,
    )
    page = read_bytes(report).decode()
    folders = [item for item in (base, audioscore, pairs, *training_data, *evaluation_data, *ancestors) if item]
    origins = {
        "base": trace(base, inputs={}, folders=[], code=source_tags(), params=fingerprint(params)),
        "aligned": trace(
            aligned,
            inputs={"base": base} | ({"pairs": pairs} if pairs else {}),
            folders=folders,
            code=source_tags(),
            params=fingerprint(params),
            kept=read_run(alignment).kept if alignment else "",
        ),
    }
    with ExitStack() as stack:
        models = {
            role: ModelFolder.of(stack.enter_context(local_copy(uri)), role=role)
            for role, uri in (("base", base), ("aligned", aligned))
        }
        stack.enter_context(failures_reported(tracking_uri()))
        tracking = Tracking.connect(params.registry.experiment)
        settings = ServingSettings.of(params)
        registry = Registry(
            tracking, params.registry.model_name, packaged=lambda folder: packaged_folder(folder, settings)
        )
        loop = fingerprint(
            params,
            {role: model.fingerprint for role, model in models.items()},
            {stage: record.digest() for stage, record in records.items()},
            page,
            decision.to_dict() if decision else None,
        )
        facts = {
            role: version_facts(params, model, evaluation=evaluation, lineage=origins[role], decision=decision)
            for role, model in models.items()
        }
        run = tracking.finished_run(loop)
        if run is None:
            tracking.delete_unfinished(loop)
            with tracking.run(f"{params.profile} loop", fingerprint=loop, tags={"profile": params.profile}) as run:
                live = {"align": found} if (found := live_run(tracking, alignment)) else {}
                _log_loop(tracking, registry, params, loop, run, models=models, records=records, page=page, live=live)
                for role, known in facts.items():
                    log_evidence(run, role, known.texts, evaluated_in(evaluation, role))
        progress("Logged the loop", 1, 2)
        versions = _register_models(registry, run, params, models, facts=facts)
        runs = tracking.children(run)
    progress("Registered the models", 2, 2)
    registration = Registration(
        tracking_uri=public_uri(tracking.uri),
        experiment=params.registry.experiment,
        run_id=run.run_id,
        runs=runs,
        model_name=registry.name,
        fingerprint=loop,
        versions=versions,
    )
    write_atomically(output, (json.dumps(asdict(registration), indent=2, allow_nan=False) + "\n").encode())
    return registration


def _log_loop(
    tracking: Tracking,
    registry: Registry,
    params: Params,
    loop: str,
    run: TrackedRun,
    *,
    models: Mapping[str, ModelFolder],
    records: Mapping[str, StageRecord],
    page: str,
    live: Mapping[str, TrackedRun],
) -> None:
    """Logs the models and one nested run a stage to the loop's `run`; stages in `live` have one with their metrics."""
    run.log_params(params.model_dump(mode="json"))
    run.log_text(page, "report/index.html")
    ids = {role: registry.log_model(model, run_id=run.run_id) for role, model in models.items()}
    for stage, record in records.items():
        if stage in live:
            _log_record(live[stage], replace(record, metrics=[]))
            tracking.adopt(live[stage], parent=run)
            continue
        with tracking.run(stage, fingerprint=loop, parent=run) as nested:
            _log_record(
                nested, replace(record, metrics=_of_models(record.metrics, ids)) if stage == "evaluate" else record
            )


def _log_record(run: TrackedRun, record: StageRecord) -> None:
    run.log_metrics(record.metrics)
    run.log_data(record.data)
    for name, content in record.files.items():
        run.log_text(content, name)


def _of_models(points: Sequence[MetricPoint], ids: Mapping[str, str]) -> list[MetricPoint]:
    """The metrics tied to the model they speak of: `base/...` to the base, all others to the aligned one."""
    return [replace(point, model_id=ids["base" if point.key.startswith("base/") else "aligned"]) for point in points]


def _register_models(
    registry: Registry,
    run: TrackedRun,
    params: Params,
    models: Mapping[str, ModelFolder],
    *,
    facts: Mapping[str, VersionFacts],
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
            **facts[role].tags,
        }
        model_id = registry.log_model(model, run_id=run.run_id)
        versions[role] = registry.register(
            model, model_id=model_id, run_id=run.run_id, tags=tags, description=facts[role].card
        )
        registry.set_alias(ALIASES[role], versions[role])
    return versions
