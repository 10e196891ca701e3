"""A connection to MLflow: one parent run a loop, nested runs for its stages.

Everything goes through a client with explicit run ids; there is no active run. Without
MLFLOW_TRACKING_URI the runs go to `mlflow.db` and `mlruns/` in the working folder, which need no server.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.failures import failures_reported, public_uri
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.source import source_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL_URI = "sqlite:///mlflow.db"
#: The fingerprint of all that a run was logged from; the same artifacts are not logged twice.
FINGERPRINT_TAG = "v2a_dpo.fingerprint"
#: How MLflow nests runs.
PARENT_TAG = "mlflow.parentRunId"

#: How MLflow's requests are tried unless the user says otherwise: the first contact shows within seconds that no server
#: answers, and later a server may be away for about 15 s, not for MLflow's four minutes.
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_LATER = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_URI


def experiment_id(client: MlflowClient, name: str, *, artifact_location: str | None = None) -> str:
    """The id of the experiment `name`, which is created if there is none.

    Raises UserError when somebody deleted it: MLflow keeps a deleted experiment and its name, and takes no runs into
    it.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process may be faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise UserError(
            f"The MLflow experiment {name!r} was deleted.",
            where=public_uri(client.tracking_uri),
            remedy=f"Restore it with `{restore}`, or name another one, as with `--set registry.experiment=NAME`.",
        )
    return str(found.experiment_id)


class Tracking:
    """A connection to one experiment of one MLflow."""

    def __init__(self, client: MlflowClient, *, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    @staticmethod
    def connect(experiment: str, *, uri: str | None = None) -> Tracking:
        """The tracking of `experiment`, which is created if need be, at `uri` or where `tracking_uri` says.

        Raises UserError when MLflow cannot be reached, or when the experiment was deleted.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            from mlflow import MlflowClient, set_tracking_uri
        except ImportError as error:
            raise UserError(
                "MLflow is not installed.",
                where="mlflow",
                remedy="Install the extra `tracking`: pip install 'v2a-dpo[tracking]'.",
            ) from error

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        uri = uri or tracking_uri()
        # A bare database keeps no files; a server has its own place for them.
        location = Path("mlruns").absolute().as_uri() if uri.startswith("sqlite:") else None
        with failures_reported(uri):
            set_tracking_uri(uri)  # a bare database's registry looks up `models:/m-...` there, not with the client
            with _environment(_FIRST_CONTACT), _loggers_kept():
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                client.get_experiment_by_name(experiment)
            for name, value in _LATER.items():
                os.environ.setdefault(name, value)
            found = experiment_id(client, experiment, artifact_location=location)
        return Tracking(client, uri=uri, experiment_id=found)

    @contextmanager
    def run(
        self, name: str, *, fingerprint: str, parent: TrackedRun | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[TrackedRun]:
        """A new run, nested in `parent` if given, which ends with the block: FINISHED, or FAILED when it raises."""
        from mlflow.exceptions import MlflowException

        nesting = {PARENT_TAG: parent.run_id} if parent else {}
        all_tags = {**(tags or {}), **source_tags(), FINGERPRINT_TAG: fingerprint, **nesting}
        created = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
        run = TrackedRun(self.client, created.info.run_id)
        try:
            yield run
        except BaseException:
            with suppress(MlflowException):  # the server may be what failed
                self.client.set_terminated(run.run_id, "FAILED")
            raise
        self.client.set_terminated(run.run_id, "FINISHED")

    def adopt(self, run: TrackedRun, *, parent: TrackedRun) -> None:
        """Nests a run that was logged live in `parent`."""
        self.client.set_tag(run.run_id, PARENT_TAG, parent.run_id)

    def is_nested(self, run: TrackedRun) -> bool:
        """Whether `run` belongs to a parent already."""
        return PARENT_TAG in self.client.get_run(run.run_id).data.tags

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The parent run that was logged to its end from what `fingerprint` says; None when there is none."""
        finished = [run for run in self._parents(fingerprint) if run.info.status == "FINISHED"]
        return TrackedRun(self.client, finished[0].info.run_id) if finished else None

    def delete_unfinished(self, fingerprint: str) -> None:
        """Deletes the runs, with what is nested in them, of killed attempts to log what `fingerprint` says."""
        for parent in self._parents(fingerprint):
            if parent.info.status != "FINISHED":
                for child in self._nested(parent.info.run_id):
                    if child.data.tags[FINGERPRINT_TAG] == fingerprint:  # a run logged live stays
                        self.client.delete_run(child.info.run_id)
                self.client.delete_run(parent.info.run_id)

    def children(self, parent: TrackedRun) -> dict[str, str]:
        """The runs nested in `parent`: name -> run id."""
        return {run.info.run_name: run.info.run_id for run in self._nested(parent.run_id)}

    def _nested(self, run_id: str) -> list[Any]:
        query = f"tags.`{PARENT_TAG}` = '{run_id}'"
        return list(self.client.search_runs([self.experiment_id], query, order_by=["attributes.start_time ASC"]))

    def _parents(self, fingerprint: str) -> list[Any]:
        runs = self.client.search_runs([self.experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'")
        return [run for run in runs if PARENT_TAG not in run.data.tags]


@contextmanager
def _loggers_kept() -> Iterator[None]:
    """Leaves loggers that work working: the migration of a new database switches all those off that exist by then."""
    working = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    working = [item for item in working if not item.disabled]
    try:
        yield
    finally:
        for item in working:
            item.disabled = False


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while the block runs, except those that the user has set."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
