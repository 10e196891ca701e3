"""The client of Kubeflow Pipelines: upload, start, follow, cancel and schedule."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
from kfp.client import Client

from v2a_dpo.cluster.errors import explained
from v2a_dpo.cluster.run_status import RunStatus, run_status
from v2a_dpo.cluster.schedules import Schedule
from v2a_dpo.cluster.submission import CompiledPipeline, Submission
from v2a_dpo.errors import UserError

#: Seconds to connect, and to wait for the first answer.
_TIMEOUT_S = (5, 30)
_PAGE = 100


@dataclass(frozen=True)
class Connection:
    """Address, namespace and credentials of a server; the token is never printed."""

    host: str
    namespace: str | None = None
    token_file: str | None = None
    token: str | None = None
    ca_file: str | None = None

    def current_token(self) -> str | None:
        """The bearer token; its file is read at every call, because it may be renewed during a run."""
        if self.token_file is None:
            return self.token
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            remedy = "Name a file that holds only the token."
            raise UserError(
                f"The token cannot be read: {error.strerror}.", where=self.token_file, remedy=remedy
            ) from error

    def __repr__(self) -> str:
        return f"Connection(host={self.host!r}, namespace={self.namespace!r})"


@dataclass(frozen=True)
class UploadedVersion:
    """A pipeline's version on the server, and whether this upload made it."""

    pipeline_id: str
    version_id: str
    is_new: bool


class _FailFastClient(Client):
    """The client, with one health check in place of five within twenty seconds."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        answer, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(_request_timeout=_TIMEOUT_S)
        if "json" not in headers.get("Content-Type", ""):
            raise UserError(
                "A web page answered instead of Kubeflow Pipelines, most likely a log-in page.",
                where=self._existing_config.host,
                remedy="Give a token (KFP_TOKEN or --token-file), or the address of the API: "
                "behind Kubeflow's gateway it ends in /pipeline.",
            )
        return answer


class PipelineClient:
    """Kubeflow Pipelines at one address."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.host = connection.host.rstrip("/")
        self._client = self._connect()
        self._specs: dict[str, Mapping[str, Any] | None] = {}
        with self._explained("the server"):
            is_multi_user = bool(self._client.get_kfp_healthz().multi_user)
        if is_multi_user and not connection.namespace:
            raise UserError(
                "This Kubeflow serves several users and needs a namespace.",
                where=self.host,
                remedy="Give --namespace or set KFP_NAMESPACE to your profile's namespace.",
            )
        # Only a server that serves several users takes a namespace; any other refuses it.
        self._namespace = connection.namespace if is_multi_user else None

    def upload(self, compiled: CompiledPipeline) -> UploadedVersion:
        """The pipeline's version on the server; it is uploaded only if this compiled text is new."""
        with self._explained(f"the pipeline {compiled.name}"):
            pipeline_id = self._pipeline_id(compiled.name) or self._create_pipeline(compiled.name)
            version_id = self._version_id(pipeline_id, compiled.version)
            if version_id is not None:
                return UploadedVersion(pipeline_id, version_id, is_new=False)
            with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
                path = Path(folder) / "pipeline.yaml"
                path.write_text(compiled.text, encoding="utf-8")
                version = self._client.upload_pipeline_version(
                    str(path), pipeline_version_name=compiled.version, pipeline_id=pipeline_id
                )
            return UploadedVersion(pipeline_id, version.pipeline_version_id, is_new=True)

    def version(self, submission: Submission) -> UploadedVersion:
        """The version that `submission` runs: an existing one if it names one, else its compiled text, uploaded.

        Raises UserError when the existing one is not on the server.
        """
        if submission.existing_version is None:
            return self.upload(submission.compiled)
        name = submission.compiled.name
        with self._explained(f"the pipeline {name}"):
            pipeline_id = self._pipeline_id(name)
            version_id = pipeline_id and self._version_id(pipeline_id, submission.existing_version)
        if not pipeline_id or not version_id:
            raise UserError(
                f"The pipeline {name} has no version called {submission.existing_version}.",
                where=self.host,
                remedy="Leave --version out to upload it, or check that the PipelineVersion was applied.",
            )
        return UploadedVersion(pipeline_id, version_id, is_new=False)

    def start(self, submission: Submission, version: UploadedVersion) -> str:
        """The id of a new run of `version` with the arguments of `submission`."""
        arguments = self._arguments(submission, version)
        with self._explained(f"the run {submission.run_name}"), redirect_stdout(io.StringIO()):
            return str(self._client.run_pipeline(job_name=submission.run_name, **arguments).run_id)

    def status(self, run_id: str) -> RunStatus:
        """The state of a run and of its tasks."""
        with self._explained(f"the run {run_id}"):
            run = self._client.get_run(run_id)
        return run_status(run, self._spec_of(run))

    def runs(self, *, limit: int = 20) -> list[RunStatus]:
        """The latest runs, the newest first, without their tasks."""
        with self._explained("the runs"):
            answer = self._client.list_runs(page_size=limit, sort_by="created_at desc", namespace=self._namespace)
        return [run_status(run) for run in answer.runs or []]

    def cancel(self, run_id: str) -> RunStatus:
        """Stops a run and returns its status; a finished run is not changed."""
        status = self.status(run_id)
        if not status.is_finished:
            with self._explained(f"the run {run_id}"):
                self._client.terminate_run(run_id)
            status = self.status(run_id)
        return status

    def schedule(self, submission: Submission, version: UploadedVersion, schedule: Schedule) -> str:
        """The id of a new schedule that starts `submission`: one run at a time, and missed ones are skipped."""
        if any(existing.name == schedule.name for existing in self.schedules()):
            raise UserError(
                f"There is already a schedule called {schedule.name}.",
                where=self.host,
                remedy=f"Choose another name, or delete it: v2a-dpo pipeline schedule delete {schedule.name}",
            )
        arguments = self._arguments(submission, version)
        with self._explained(f"the schedule {schedule.name}"):
            created = self._client.create_recurring_run(
                job_name=schedule.name,
                cron_expression=schedule.cron,
                interval_second=schedule.interval_s,
                max_concurrency=1,
                no_catchup=True,
                **arguments,
            )
        return str(created.recurring_run_id)

    def schedules(self) -> list[Schedule]:
        """All schedules, in the server's order."""
        schedules: list[Schedule] = []
        token = ""
        with self._explained("the schedules"):
            while True:
                page = self._client.list_recurring_runs(page_token=token, page_size=_PAGE, namespace=self._namespace)
                schedules += [Schedule.of(recurring) for recurring in page.recurring_runs or []]
                token = page.next_page_token or ""
                if not token:
                    return schedules

    def delete_schedule(self, name: str) -> None:
        """Deletes the schedule called `name`; the runs it started stay."""
        ids = [existing.schedule_id for existing in self.schedules() if existing.name == name]
        if not ids:
            remedy = "See `v2a-dpo pipeline schedule list`."
            raise UserError(f"There is no schedule called {name}.", where=self.host, remedy=remedy)
        with self._explained(f"the schedule {name}"):
            for schedule_id in ids:
                self._client.delete_recurring_run(schedule_id)

    def page_of(self, run_id: str) -> str:
        """The address of a run's page."""
        return f"{self.host}/#/runs/details/{run_id}"

    def renew_token(self) -> None:
        """Logs in again with the current token."""
        self._client = self._connect()

    def _connect(self) -> Client:
        # Without a namespace: the client would send its own in every request, and most servers refuse that.
        with warnings.catch_warnings(), self._explained("the server"):
            warnings.simplefilter("ignore")  # the client warns at every start that it needs a server of version 2
            return _FailFastClient(
                host=self.host,
                existing_token=self._connection.current_token(),
                ssl_ca_cert=self._connection.ca_file,
            )

    def _pipeline_id(self, name: str) -> str | None:
        pipelines = self._client.list_pipelines(namespace=self._namespace, filter=_named(name)).pipelines
        return str(pipelines[0].pipeline_id) if pipelines else None

    def _create_pipeline(self, name: str) -> str:
        """A pipeline without versions: uploading under its name alone would create a version without fingerprint."""
        pipeline = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, namespace=self._namespace)
        return str(self._client.pipelines.pipeline_service_create_pipeline(pipeline).pipeline_id)

    def _version_id(self, pipeline_id: str, name: str) -> str | None:
        versions = self._client.list_pipeline_versions(pipeline_id, filter=_named(name)).pipeline_versions
        return str(versions[0].pipeline_version_id) if versions else None

    def _arguments(self, submission: Submission, version: UploadedVersion) -> dict[str, Any]:
        """The arguments of a call that runs `version` once or regularly; creates the experiment if it is new."""
        name = submission.experiment
        with self._explained(f"the experiment {name}"), redirect_stdout(io.StringIO()):
            experiment = self._client.create_experiment(name, namespace=self._namespace)
        return {
            "experiment_id": str(experiment.experiment_id),
            "params": dict(submission.arguments),
            "pipeline_id": version.pipeline_id,
            "version_id": version.version_id,
            "service_account": submission.service_account,
        }

    def _spec_of(self, run: Any) -> Mapping[str, Any] | None:
        """The specification that a run follows, from the run itself or from its pipeline's version."""
        if run.pipeline_spec:
            return dict(run.pipeline_spec)
        reference = run.pipeline_version_reference
        if reference is None:
            return None
        version_id = reference.pipeline_version_id
        if version_id not in self._specs:
            with self._explained(f"the pipeline of the run {run.run_id}"):
                version = self._client.get_pipeline_version(reference.pipeline_id, version_id)
            self._specs[version_id] = version.pipeline_spec
        return self._specs[version_id]

    def _explained(self, what: str) -> AbstractContextManager[None]:
        return explained(what, host=self.host, namespace=self._connection.namespace)


def _named(name: str) -> str:
    return json.dumps(
        {"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]}, allow_nan=False
    )
